from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.analysis.collect import collect_run
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.errors import CalibrationError
from seenn.exits import (
    CachedRun,
    ConfidenceExit,
    ConformalExit,
    CutoffExit,
    EntropyExit,
    FailurePredictionExit,
    FixedExit,
    GapExit,
    PatienceExit,
    ScaledConfidenceExit,
    ScoredExit,
    TwoSidedExit,
    calibrate_exit,
    cost_of_steps,
    exit_scores,
    find_exit,
    replay,
)
from seenn.exits.calibration.replay import fit_split
from seenn.exits.calibration.target import ExitTarget

T, N, K = 5, 60, 4


def cached(seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (N,), generator=random)
    steps = torch.randn(T, N, K, generator=random) + 0.8 * torch.nn.functional.one_hot(labels, K)
    return steps.cumsum(0), labels


def brute_force(policy: ConfidenceExit, logits: Tensor, labels: Tensor, drop: float) -> float:
    """The smallest mean timesteps over every threshold that can matter, each replayed sample by sample."""
    scores = exit_scores(policy, logits).double()
    candidates = sorted({c for c in scores.flatten().tolist() if 0 < c <= 1} | {1e-6, 1.0})
    full = (logits[-1].argmax(-1) == labels).sum().item()
    best = float(T)
    for c in candidates:
        exits = [next((t + 1 for t in range(T - 1) if scores[t, n] > c), T) for n in range(N)]
        right = sum(int(logits[t - 1, n].argmax() == labels[n]) for n, t in enumerate(exits))
        if full - right <= drop * N + 1e-9:
            best = min(best, sum(exits) / N)
    return best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("drop", [0.0, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("accumulation", ["sum", "mean"])
def test_the_threshold_is_the_cheapest_of_all_that_keep_the_accuracy(seed: int, drop: float, accumulation: str) -> None:
    logits, labels = cached(seed)
    base = ConfidenceExit(accumulation=accumulation, temperature=1.5)  # type: ignore[arg-type]
    found = calibrate_exit(logits, labels, base, max_accuracy_drop=drop)
    assert found.mean_timesteps == pytest.approx(brute_force(base, logits, labels, drop), abs=1e-12)
    assert found.accuracy >= found.full_accuracy - drop - 1e-12
    assert replay(found.policy, logits).double().mean().item() == found.mean_timesteps
    assert (found.samples, found.policy.temperature, found.policy.accumulation) == (N, 1.5, accumulation)


def test_a_drop_of_exactly_the_allowance_is_allowed() -> None:
    # 8 of 10 right at T, 7 of 10 at t=1. In floats 0.8 - 0.1 is above 0.7.
    labels = torch.zeros(10, dtype=torch.int64)
    labels[8:] = 1
    logits = torch.tensor([2.0, 0.0]).expand(2, 10, 2).clone()
    logits[0, 0] = torch.tensor([0.0, 2.0])
    found = calibrate_exit(logits, labels, ConfidenceExit(), max_accuracy_drop=0.1)
    assert (found.full_accuracy, found.accuracy, found.mean_timesteps) == (0.8, 0.7, 1.0)


def test_without_a_target_the_policy_is_left_as_given() -> None:
    logits, labels = cached(0)
    base = ConfidenceExit(threshold=0.6)
    found = calibrate_exit(logits, labels, base)
    assert found.policy == base
    assert found.mean_timesteps == replay(base, logits).double().mean().item()


def test_what_would_mean_nothing_is_refused() -> None:
    logits, labels = cached(0)
    with pytest.raises(CalibrationError, match=r"the exit split has 60 images of 1 classes; .* at least two"):
        calibrate_exit(logits, torch.zeros_like(labels), ConfidenceExit())
    for drop in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"max_accuracy_drop is a fraction in \[0, 1\), got"):
            calibrate_exit(logits, labels, ConfidenceExit(), max_accuracy_drop=drop)


@pytest.mark.parametrize(
    "rule",
    [
        EntropyExit(accumulation="sum"),
        GapExit(),
        PatienceExit(),
        ScaledConfidenceExit(),
        ConformalExit(alpha=0.5),
        FailurePredictionExit(),
        TwoSidedExit(),
    ],
    ids=lambda rule: rule.kind,
)
def test_every_rule_meets_its_target(rule: ScoredExit) -> None:
    logits, labels = cached(0)
    found = calibrate_exit(logits, labels, rule, max_accuracy_drop=0.05)
    assert found.accuracy >= found.full_accuracy - 0.05 - 1e-12
    assert found.samples == (40 if rule.learned else N)
    thrifty = calibrate_exit(logits, labels, rule, target_timesteps=2.5)
    assert thrifty.mean_timesteps <= 2.5
    run = CachedRun(logits_sum=logits, labels=labels)
    curve = (run[fit_split(N)[1]] if rule.learned else run).curve(thrifty.policy)
    affordable = curve.mean_timesteps <= 2.5
    assert thrifty.accuracy == pytest.approx(float(curve.accuracy[affordable].max()))
    assert type(thrifty.policy) is type(rule)


def test_a_fixed_number_of_steps_has_targets_too() -> None:
    logits, labels = cached(0)
    accuracy = [float((step.argmax(-1) == labels).double().mean()) for step in logits]
    found = calibrate_exit(logits, labels, FixedExit(), max_accuracy_drop=0.1)
    assert found.policy.timesteps == next(t for t, a in enumerate(accuracy, 1) if a >= accuracy[-1] - 0.1 - 1e-12)
    thrifty = calibrate_exit(logits, labels, FixedExit(), target_timesteps=3.5)
    assert (thrifty.accuracy, thrifty.mean_timesteps <= 3) == (max(accuracy[:3]), True)
    assert calibrate_exit(logits, labels, FixedExit(timesteps=2)).policy == FixedExit(timesteps=2)
    assert calibrate_exit(logits, labels, FixedExit()).policy == FixedExit(timesteps=T)
    with pytest.raises(
        CalibrationError, match="a fixed exit after 9 timesteps is never reached: the network runs for 5"
    ):
        calibrate_exit(logits, labels, FixedExit(timesteps=9))


def test_patience_that_never_stops_early_is_refused_as_a_fixed_exit_is() -> None:
    logits, labels = cached(0)
    assert calibrate_exit(logits, labels, PatienceExit(patience=T)).policy.patience == T
    with pytest.raises(CalibrationError, match="the same answer in 6 timesteps is never reached: the network runs for"):
        calibrate_exit(logits, labels, PatienceExit(patience=T + 1))


def test_targets_out_of_reach_name_the_nearest() -> None:
    logits, labels = cached(0)
    with pytest.raises(CalibrationError, match=r"a mean of 7 timesteps: it can give 1 to 5 .* nearest is 5; ask"):
        calibrate_exit(logits, labels, ConfidenceExit(), target_timesteps=7.0)
    # Two equal outputs have an entropy score of exactly 0, which no threshold above 0 lets stop.
    logits[:4] = 0.0
    with pytest.raises(
        CalibrationError, match=r"no threshold of the entropy rule gives a mean of 2 timesteps: .* is 5;"
    ):
        calibrate_exit(logits, labels, EntropyExit(), target_timesteps=2.0)


def test_points_of_the_curve_that_no_threshold_gives_are_not_chosen() -> None:
    # Stopping everyone at once would be best, but equal outputs score 0 and go on, to be wrong at t=2.
    first, second, third = [[0.0, 0.0], [0.0, 3.0]], [[0.0, 9.0], [0.0, 6.0]], [[9.0, 0.0], [0.0, 9.0]]
    logits, labels = torch.tensor([first, second, third]), torch.tensor([0, 1])
    found = calibrate_exit(logits, labels, EntropyExit(), max_accuracy_drop=0.0)
    assert (found.accuracy, found.mean_timesteps) == (1.0, 3.0)
    assert CachedRun(logits_sum=logits, labels=labels).curve(EntropyExit()).accuracy[0] == 1.0


def test_bad_targets_and_logits_are_refused() -> None:
    logits, labels = cached(0)
    with pytest.raises(ValueError, match="give one of max_accuracy_drop, target_timesteps and target_energy"):
        calibrate_exit(logits, labels, ConfidenceExit(), max_accuracy_drop=0.1, target_timesteps=2.0)
    for steps in (0.0, float("nan")):
        with pytest.raises(ValueError, match="target_timesteps is a mean of full timesteps above 0, got"):
            calibrate_exit(logits, labels, ConfidenceExit(), target_timesteps=steps)
    logits[2, 7, 1] = float("nan")
    with pytest.raises(CalibrationError, match="the outputs of 1 of 60 images of the exit split are not finite"):
        calibrate_exit(logits, labels, ConfidenceExit())


def test_collected_logits_are_those_of_a_run_without_exits(network: SpikingNetwork, images: Tensor) -> None:
    labels = torch.arange(12) % 5
    batches = list(Batch(images, labels).split(5))
    run = collect_run(network, batches, 3)
    assert torch.equal(run.labels, labels)
    torch.testing.assert_close(run.logits_sum[-1] / 3, network(images, 3))
    with pytest.raises(CalibrationError, match="there are no images to calibrate the exit on"):
        collect_run(network, [], 3)


@pytest.mark.parametrize("rule", [ConfidenceExit(), FixedExit(), CutoffExit()], ids=lambda rule: rule.kind)
def test_means_and_targets_are_costs_with_initial_steps(rule: Any) -> None:
    logits, labels = cached(0)
    plain = calibrate_exit(logits, labels, rule, target_timesteps=2.5)
    run = CachedRun(logits_sum=logits, labels=labels, cost=cost_of_steps(T, 3))
    later = find_exit(run, rule, target_timesteps=5.5)
    assert (later.policy, later.mean_timesteps) == (plain.policy, pytest.approx(plain.mean_timesteps + 3))
    with pytest.raises(CalibrationError, match=r"a mean of 3\.5 timesteps: it can give 4 to [\d.]+ .* nearest is 4"):
        find_exit(run, rule, target_timesteps=3.5)


def test_exit_points_may_lie_closer_than_a_step() -> None:
    logits, labels = cached(0)
    cost = torch.tensor([0.5, 1.0, 1.75, 2.0, 4.0], dtype=torch.float64)
    run = CachedRun(logits_sum=logits, labels=labels, cost=cost)
    found = find_exit(run, ConfidenceExit(), target_timesteps=1.6)
    exits = replay(found.policy, logits, cost=cost)
    assert found.mean_cost == pytest.approx(float(cost[exits - 1].mean()))
    assert found.mean_cost <= 1.6
    curve = run.curve(found.policy)
    assert (float(curve.mean_timesteps[0]), float(curve.mean_timesteps[-1])) == (0.5, 4.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_accuracy_drop": 1.5, "confidence": 0.9},
            "a guarantee needs a max_accuracy_drop between 0 and 1, got 1.5",
        ),
        (
            {"max_accuracy_drop": 1.0, "confidence": 0.9},
            "a guarantee needs a max_accuracy_drop between 0 and 1, got 1.0",
        ),
        (
            {"max_accuracy_drop": -0.1, "confidence": 0.9},
            "a guarantee needs a max_accuracy_drop between 0 and 1, got -",
        ),
        ({"confidence": 0.9}, "a guarantee needs a max_accuracy_drop between 0 and 1, got None"),
        ({"max_accuracy_drop": 0.1, "confidence": 0.0}, "confidence is a probability between 0 and 1, got 0.0"),
        ({"max_accuracy_drop": 0.1, "confidence": -0.5}, "confidence is a probability between 0 and 1, got -0.5"),
        ({"max_accuracy_drop": 0.1, "guarantee": "marginal"}, "a guarantee needs a confidence, the probability that"),
        ({"max_accuracy_drop": 0.1, "guarantee": "expected", "confidence": 0.9}, "the expected guarantee is of a"),
        ({"max_accuracy_drop": 0.0, "guarantee": "expected"}, "the expected guarantee is of a"),
        ({"guarantee": "expected"}, "the expected guarantee is of a"),
        ({"target_timesteps": 2.0, "target_energy": 5.0}, "give one of max_accuracy_drop, target_timesteps and target"),
        ({"target_timesteps": -1.0}, "target_timesteps is a mean of full timesteps above 0, got -1.0"),
    ],
)
def test_targets_that_cannot_be_are_refused_before_anything_is_looked_at(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExitTarget(**options)


def test_a_mean_of_all_that_is_possible_is_possible_at_both_ends() -> None:
    logits, labels = cached(0)
    run = CachedRun(logits_sum=logits, labels=labels, cost=torch.tensor([0.5, 1.0, 1.75, 2.0, 4.0]).double())
    assert find_exit(run, ConfidenceExit(), target_timesteps=0.5).mean_cost == 0.5
    assert find_exit(run, ConfidenceExit(), target_timesteps=4.0).mean_cost <= 4.0
    for beyond in (0.49, 4.01):
        with pytest.raises(CalibrationError, match=rf"a mean of {beyond} timesteps: it can give 0\.5 to 4 timesteps"):
            find_exit(run, ConfidenceExit(), target_timesteps=beyond)
    energy = torch.linspace(10, 50, T).double()[:, None].expand(T, N)
    known = CachedRun(logits_sum=logits, labels=labels, energy_pj=energy)
    found = find_exit(known, ConfidenceExit(), target_energy=10.0)
    assert (found.mean_energy_pj, found.mean_timesteps) == (10.0, 1.0)
    with pytest.raises(CalibrationError, match=r"a mean of 60 pJ per image: it can give 10 to 50 pJ"):
        find_exit(known, ConfidenceExit(), target_energy=60.0)
    with pytest.raises(ValueError, match="target_energy needs energy_pj"):
        calibrate_exit(logits, labels, ConfidenceExit(), target_energy=10.0)


def test_two_classes_are_enough() -> None:
    logits, labels = cached(0)
    found = calibrate_exit(logits[..., :2], labels % 2, ConfidenceExit(), max_accuracy_drop=0.0)
    assert found.accuracy >= found.full_accuracy


def test_images_with_outputs_that_are_not_finite_are_counted() -> None:
    logits, labels = cached(0)
    logits[2, 7, 1] = logits[4, 7, 0] = logits[0, 8] = logits[1, 9, 3] = float("inf")
    with pytest.raises(CalibrationError, match="the outputs of 3 of 60 images of the exit split are not finite"):
        calibrate_exit(logits, labels, ConfidenceExit())


def test_targets_that_are_computed_are_as_good_as_those_that_are_written() -> None:
    logits, labels = cached(0)
    run = CachedRun(logits_sum=logits, labels=torch.zeros_like(labels) + torch.arange(N) % 2)
    risk = "".join(("disagree", "ment"))
    found: Any = find_exit(run, ConfidenceExit(), max_accuracy_drop=0.05, risk=risk)
    assert found.full_accuracy == 1.0


def test_a_calibration_is_a_record_of_what_was_found() -> None:
    logits, labels = cached(0)
    found = calibrate_exit(logits, labels, ConfidenceExit())
    with pytest.raises(FrozenInstanceError):
        found.accuracy = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        find_exit(CachedRun(logits_sum=logits, labels=labels), ConfidenceExit(), {})  # type: ignore[misc]


def test_a_rule_is_asked_at_its_start_about_as_many_samples_and_nothing_else() -> None:
    logits, _ = cached(0)
    asked = []

    @dataclass(frozen=True, kw_only=True)
    class Curious(ConfidenceExit):
        def start(self, inputs: Tensor) -> tuple[Tensor, ...]:
            asked.append(inputs.shape)
            return super().start(inputs)

    replay(Curious(), logits)
    exit_scores(Curious(), logits)
    assert asked == [(N, 0)] * 2
    with pytest.raises(ValueError, match="longer"):
        replay(ConfidenceExit(), logits, cost=cost_of_steps(2))


def test_the_part_that_numbers_are_fitted_on_is_a_third_and_the_same_in_every_version() -> None:
    fit, test = fit_split(9)
    assert (fit.tolist(), test.tolist()) == ([8, 0, 2], [3, 7, 1, 4, 5, 6])
