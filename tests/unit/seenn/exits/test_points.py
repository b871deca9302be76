"""Exit points: pairs of timestep and depth, in order of cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits import (
    CachedRun,
    ConfidenceExit,
    ConformalExit,
    CutoffExit,
    EntropyExit,
    ExitPolicy,
    FailurePredictionExit,
    FixedExit,
    GapExit,
    Guarantee,
    PatienceExit,
    Progress,
    ScaledConfidenceExit,
    TwoSidedExit,
    cost_of_steps,
    find_exit,
)
from seenn.exits.calibration.replay import fit_split
from seenn.exits.guarantees.risk_control import lowest_threshold

T, COSTS = 3, (0.25, 0.6, 1.0)
P = T * len(COSTS)


def drawn(n: int, seed: int = 0) -> CachedRun:
    """Evidence for one of four labels that grows with the cost; rather unsure ones, so that some are wrong at first."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=random)
    cost = cost_of_steps(T, 0, COSTS)
    ease = torch.rand(n, 1, generator=random)
    signal = torch.nn.functional.one_hot(labels, 4) * ease
    walk = torch.randn(P, n, 4, generator=random).cumsum(0) / 3
    logits = 4 * cost[:, None, None].float() * signal + walk
    energy = cost[:, None] * torch.rand(n, generator=random).double()
    return CachedRun(logits_sum=logits, labels=labels, cost=cost, segments=3, energy_pj=energy)


def test_points_are_pairs_in_order_of_cost() -> None:
    run = drawn(5)
    stands = list(run.progress)
    assert [int(each.t[0]) for each in stands] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [int(each.segment[0]) for each in stands] == [1, 2, 3] * 3
    assert [int(each.point[0]) for each in stands] == list(range(1, 10))
    assert [float(each.cost[0]) for each in stands] == pytest.approx([0.25, 0.6, 1, 1.25, 1.6, 2, 2.25, 2.6, 3])
    assert [bool(each.whole[0]) for each in stands] == [False, False, True] * 3
    assert (run.timesteps, run.initial_steps) == (T, 0)
    assert replace(run, cost=cost_of_steps(T, 4, COSTS)).initial_steps == 4


@pytest.mark.parametrize(
    "rule",
    [
        ConfidenceExit(),
        EntropyExit(),
        GapExit(),
        CutoffExit(),
        ScaledConfidenceExit(),
        PatienceExit(),
        ConformalExit(),
        FailurePredictionExit(),
        TwoSidedExit(),
        FixedExit(),
    ],
    ids=lambda rule: rule.kind,
)
def test_every_rule_is_calibrated_over_pairs_and_costs_less_than_in_time_alone(rule: ExitPolicy) -> None:
    run = drawn(1500)
    found = find_exit(run, rule, max_accuracy_drop=0.03)
    in_time = find_exit(run.whole_steps, rule, max_accuracy_drop=0.03)
    assert found.accuracy >= found.full_accuracy - 0.03 - 1e-9
    if not isinstance(rule, ConformalExit):  # whose sets are larger, the more points share its level
        assert found.mean_cost <= in_time.mean_cost + 1e-9
    assert found.mean_cost <= found.mean_timesteps
    if not isinstance(rule, CutoffExit | FixedExit):
        limit = find_exit(run, rule, target_timesteps=0.9)
        assert limit.mean_cost <= 0.9


def test_a_fixed_exit_may_be_a_head() -> None:
    found = find_exit(drawn(400), FixedExit(), target_timesteps=1.7)
    assert found.policy == FixedExit(timesteps=2, segment=2)
    assert drawn(400).exits(found.policy).eq(5).all()
    assert drawn(400).exits(FixedExit(timesteps=2)).eq(6).all()


@pytest.mark.parametrize("guarantee", ["marginal", "conditional"])
def test_guarantees_hold_over_pairs_on_other_samples(guarantee: Guarantee) -> None:
    """Of 40 exit splits with δ = 0.2 at most so many may break it that 8 ± 3 standard errors explain."""
    truth, broken, costs = drawn(20_000, seed=99), 0, []
    for seed in range(40):
        rule = find_exit(
            drawn(600, seed), ConfidenceExit(), max_accuracy_drop=0.05, confidence=0.8, guarantee=guarantee
        ).policy
        exits = truth.exits(rule) - 1
        right = truth.correct().gather(0, exits[None])[0]
        drop = truth.correct()[-1].double() - right.double()
        if guarantee == "marginal":
            broken += float(drop.mean()) > 0.05
        else:
            stopped = [drop[exits <= point] for point in range(P)]
            broken += any(len(part) > 0 and float(part.mean()) > 0.05 + 0.01 for part in stopped)
        costs.append(float(truth.cost[exits].mean()))
    assert sum(costs) / len(costs) < 2.9
    assert broken <= 8 + 3 * math.sqrt(40 * 0.2 * 0.8)


def test_a_risk_is_controlled_on_average_from_few_samples() -> None:
    truth = drawn(20_000, seed=99)
    losses, costs = [], []
    for seed in range(60):
        rule = find_exit(drawn(40, seed), ConfidenceExit(), max_accuracy_drop=0.1, guarantee="expected").policy
        exits = truth.exits(rule) - 1
        right = truth.correct().gather(0, exits[None])[0]
        losses.append(float((truth.correct()[-1] & ~right).double().mean()))
        costs.append(float(truth.cost[exits].mean()))
    assert sum(losses) / 60 <= 0.1 + 0.015
    assert sum(costs) / 60 < 2.9
    with pytest.raises(
        CalibrationError, match=r"5 images are too few to bound the expected loss by 0\.1: that takes 9"
    ):
        find_exit(drawn(5), ConfidenceExit(), max_accuracy_drop=0.1, guarantee="expected")


def views(count: int) -> tuple[CachedRun, CachedRun, CachedRun]:
    """So many things, five views of each, and these as groups."""
    things = drawn(count, seed=3)
    of = torch.arange(count).repeat(5)
    of = of[torch.randperm(len(of), generator=torch.Generator().manual_seed(1))]
    return things, things[of], replace(things[of], groups=of)


def test_an_expected_loss_is_the_mean_over_groups() -> None:
    (things, repeated, grouped), asked = views(24), {"max_accuracy_drop": 0.1, "guarantee": "expected"}
    honest, claimed, found = (find_exit(run, ConfidenceExit(), **asked) for run in (things, repeated, grouped))
    assert found.policy == honest.policy
    assert found.policy.threshold > claimed.policy.threshold
    assert found.accuracy == pytest.approx(honest.accuracy)
    with pytest.raises(CalibrationError, match=r"8 groups of images are too few to bound the expected loss by 0\.1"):
        find_exit(views(8)[2], ConfidenceExit(), **asked)
    fit, rest = fit_split(len(grouped), grouped.groups)
    assert grouped.groups is not None
    assert len(fit) == 8 * 5
    assert not {*grouped.groups[fit].tolist()} & {*grouped.groups[rest].tolist()}
    assert find_exit(grouped, ScaledConfidenceExit(), **asked).samples == len(rest) == 16 * 5


def test_a_confidence_counts_one_sample_of_each_group() -> None:
    (things, repeated, grouped), asked = views(80), {"max_accuracy_drop": 0.1, "confidence": 0.9}
    honest, claimed, found = (find_exit(run, ConfidenceExit(), **asked) for run in (things, repeated, grouped))
    assert found.samples == honest.samples < claimed.samples
    assert found.policy.threshold > claimed.policy.threshold
    plain = find_exit(grouped, ConfidenceExit(), max_accuracy_drop=0.1)
    assert plain.samples == len(grouped)  # nothing is claimed of others


def test_a_loss_counts_below_the_highest_threshold_at_which_it_occurs() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.2], [0.7, 0.1, 0.4], [0.0, 0.0, 0.0]])
    correct = torch.tensor([[False, True, False], [True, True, False], [True, True, True]])
    # The first sample is lost below 0.5 alone; the second never; the third below 0.4 (and below 0.2 still).
    one = torch.ones(3, dtype=torch.float64)
    assert lowest_threshold(scores, correct, 0, one) == pytest.approx(0.5)
    assert lowest_threshold(scores, correct, 1, one) == pytest.approx(0.4)
    assert lowest_threshold(scores, correct, 2, one) == -math.inf
    assert lowest_threshold(scores, correct, 0.4, one / 2) == pytest.approx(0.5)
    assert lowest_threshold(scores, correct, 0.5, one / 2) == pytest.approx(0.4)


def test_disagreement_needs_no_labels() -> None:
    run = drawn(2000)
    blind = CachedRun(logits_sum=run.logits_sum, labels=torch.full_like(run.labels, -1), cost=run.cost, segments=3)
    found = find_exit(blind, ConfidenceExit(), max_accuracy_drop=0.02, risk="disagreement", confidence=0.9)
    exits = drawn(20_000, seed=5).exits(found.policy)
    other = drawn(20_000, seed=5).logits_sum
    differs = other[exits - 1, torch.arange(20_000)].argmax(-1) != other[-1].argmax(-1)
    assert float(differs.double().mean()) <= 0.02
    assert found.full_accuracy == 1.0
    assert found.mean_cost < 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guarantee": "expected", "max_accuracy_drop": 0.1, "confidence": 0.9}, "has no confidence"),
        ({"guarantee": "expected"}, "the expected guarantee is of a max_accuracy_drop above 0"),
        ({"risk": "other"}, "risk must be 'accuracy' or 'disagreement', got 'other'"),
        ({"risk": "disagreement"}, "risk says what a target bounds, and none is given"),
    ],
)
def test_wrong_targets_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_exit(drawn(40), ConfidenceExit(), **wrong)


def test_messages_speak_of_exit_points_where_steps_have_several() -> None:
    with pytest.raises(CalibrationError, match=r"alpha = 0\.1 at 9 exit points: .* run fewer exit points"):
        ConformalExit().fitted(drawn(40))
    with pytest.raises(CalibrationError, match=r"numbers for 2 exit points, but is asked at exit point = 5"):
        ConfidenceExit(threshold=(0.1, 0.2)).limit(Progress.at(5, 2, segments=3))


def test_a_rule_has_a_threshold_for_every_point() -> None:
    progress, logits = Progress.at(5, 2, segments=3), torch.zeros(2, 4)
    tensor: Tensor = ConfidenceExit(threshold=(0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1)).limit(progress)  # type: ignore[assignment]
    assert tensor.tolist() == pytest.approx([0.2, 0.2])
    assert ConfidenceExit().confidence(progress, logits).tolist() == [0.25, 0.25]
