"""Every rule against its definition, worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.errors import CalibrationError, CheckpointError
from seenn.exits import (
    CachedRun,
    ConfidenceExit,
    ConformalExit,
    EntropyExit,
    ExitPolicy,
    FailurePredictionExit,
    FixedExit,
    GapExit,
    PatienceExit,
    Progress,
    ScaledConfidenceExit,
    TwoSidedExit,
    exit_scores,
    policy_from_json,
    policy_to_json,
    register_policy,
    replay,
)
from seenn.exits.rules.failure import fit_logistic
from seenn.exits.rules.scaled import fit_temperature

STEP = torch.ones(1, dtype=torch.int64)


def noisy(samples: int, seed: int = 0, timesteps: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=random)
    steps = 1.5 * torch.randn(timesteps, samples, classes, generator=random)
    return (steps + torch.nn.functional.one_hot(labels, classes)).cumsum(0), labels


def test_entropy_is_normalised() -> None:
    uniform, sure = torch.zeros(1, 8), torch.tensor([[50.0, 0.0]])
    assert EntropyExit().score(Progress.at(1, 1), uniform, ())[0].item() == pytest.approx(0.0, abs=1e-6)
    assert EntropyExit().score(Progress.at(1, 1), sure, ())[0].item() == pytest.approx(1.0)
    half = torch.tensor([[0.75, 0.25]]).log()
    expected = 1 + (0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert EntropyExit(accumulation="mean").score(Progress.at(4, 1), 4 * half, ())[0].item() == pytest.approx(expected)
    assert EntropyExit(accumulation="sum").score(Progress.at(4, 1), half, ())[0].item() == pytest.approx(expected)


def test_the_gap_has_a_threshold_for_every_timestep() -> None:
    leads = torch.tensor([[3.0, 1.0, 0.0]])
    logits = torch.stack([leads, leads, leads])
    assert replay(GapExit(threshold=(2.0, 1.9), accumulation="sum"), logits).item() == 2
    assert replay(GapExit(threshold=2.0, accumulation="sum"), logits).item() == 3
    assert replay(GapExit(threshold=(2.0, 0.9)), logits).item() == 2


def test_numbers_for_fewer_timesteps_than_are_run_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"numbers for 2 timesteps, but is asked at t = 3: run as many"):
        replay(GapExit(threshold=(5.0, 5.0)), torch.zeros(4, 1, 3))


def test_patience_counts_equal_answers_in_a_row() -> None:
    answers = torch.tensor([[0, 1], [1, 1], [1, 0], [1, 0], [0, 0], [0, 0]])  # [T, N]
    logits = torch.nn.functional.one_hot(answers, 2).float()
    assert replay(PatienceExit(patience=2), logits).tolist() == [3, 2]
    assert replay(PatienceExit(patience=3), logits).tolist() == [4, 5]
    assert replay(PatienceExit(patience=1), logits).tolist() == [1, 1]
    assert exit_scores(PatienceExit(), logits)[:5].T.tolist() == [[1, 1, 2, 3, 1], [1, 2, 1, 2, 3]]


def test_the_conformal_set_must_be_small_and_not_empty() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.34, 0.33, 0.33]]).log()
    rule = ConformalExit(max_size=2, quantiles=(-math.log(0.35), -math.log(0.25)))
    assert rule.contains(Progress.at(1, 3), p).tolist() == [[True, False, False], [True, False, False], [False] * 3]
    assert replay(rule, torch.stack([p, 2 * p, 3 * p])).tolist() == [1, 1, 3]
    rule = ConformalExit(max_size=1, quantiles=(-math.log(0.25),))
    assert replay(rule, torch.stack([p, 2 * p])).tolist() == [2, 1, 2]


def test_two_sided_stops_what_is_low_and_does_not_climb() -> None:
    low, climbing, sure = [0.3, 0.3, 0.3], [0.0, 0.3, 0.6], [9.0, 9.0, 9.0]
    mean = torch.tensor([low, climbing, sure]).T[..., None] * torch.tensor([1.0, 0.0])  # [T, N, K]
    logits = mean * torch.arange(1, 4)[:, None, None]
    rule = TwoSidedExit(inner=GapExit(threshold=5.0, accumulation="mean"), give_up=1.0)
    assert replay(rule, logits).tolist() == [2, 3, 1]
    assert replay(
        TwoSidedExit(inner=GapExit(threshold=5.0, accumulation="mean"), give_up=1.0, after=3), logits
    ).tolist() == [3, 3, 1]
    assert replay(rule.at(rule.never), logits).tolist() == [3, 3, 3]


def test_two_sided_gives_up_only_where_nothing_is_lost() -> None:
    logits, labels = noisy(2000)
    logits[:, :600] = 0.01 * logits[:1, :600] * torch.arange(1, 7)[:, None, None]  # an opinion, weak and for ever
    rule = TwoSidedExit(inner=ConfidenceExit(threshold=1.0, accumulation="mean"), slope=1e-5).fitted(
        CachedRun(logits_sum=logits, labels=labels)
    )
    certain = replay(rule.at(0.999999), logits)
    assert certain[:600].double().mean() < 3.0
    right = logits[certain - 1, torch.arange(2000)].argmax(-1) == labels
    assert right.sum() >= (logits[-1].argmax(-1) == labels).sum()
    assert replay(rule, logits).eq(6).all()  # at the threshold that never stops, nobody gives up either


def test_temperatures_minimise_the_cross_entropy() -> None:
    random = torch.Generator().manual_seed(0)
    true = 2 * torch.randn(20_000, 5, generator=random)
    labels = true.softmax(-1).multinomial(1, generator=random).squeeze(1)
    assert fit_temperature(4 * true, labels) == pytest.approx(4.0, rel=0.03)
    rule = ScaledConfidenceExit().fitted(CachedRun(logits_sum=torch.stack([4 * true, true]), labels=labels))
    assert rule.temperatures == pytest.approx((4.0, 0.5), rel=0.03)
    confidence = rule.confidence(Progress.at(2, 20_000), true)
    torch.testing.assert_close(confidence, true.softmax(-1).amax(-1), atol=0.02, rtol=0)


def test_logistic_regression_finds_the_minimum() -> None:
    from scipy.optimize import minimize

    random = torch.Generator().manual_seed(0)
    x = torch.cat([torch.ones(500, 1), torch.randn(500, 2, generator=random)], dim=1).double()
    y = torch.rand(500, generator=random) < (x @ torch.tensor([0.5, -2.0, 1.0]).double()).sigmoid()

    def loss(w: Any) -> float:
        margin = (1 - 2 * y.double()) * (x @ torch.from_numpy(w))
        return float(torch.nn.functional.softplus(margin).sum()) + 0.5 * float(w @ w)

    torch.testing.assert_close(
        fit_logistic(x, y), torch.from_numpy(minimize(loss, torch.zeros(3).double().numpy()).x), atol=1e-4, rtol=0
    )


def test_failure_prediction_is_a_probability_that_holds() -> None:
    logits, labels = noisy(8000)
    rule = FailurePredictionExit().fitted(CachedRun(logits_sum=logits[:, :4000], labels=labels[:4000]))
    assert rule == FailurePredictionExit().fitted(CachedRun(logits_sum=logits[:, :4000], labels=labels[:4000]))
    correct = (logits.argmax(-1) == labels)[:, 4000:]
    helps = torch.stack([~correct[t] & correct[-1] for t in range(5)])
    predicted = 1 - exit_scores(rule, logits[:, 4000:])[:5]
    for low in (0.0, 0.1, 0.3):
        near = (predicted >= low) & (predicted < low + 0.1)
        assert near.sum() > 100
        assert predicted[near].mean().item() == pytest.approx(helps[near].double().mean().item(), abs=0.08)


def test_the_label_is_in_the_set_at_the_stopping_time() -> None:
    alpha, covered, total = 0.1, 0, 0
    for seed in range(40):
        logits, labels = noisy(400, seed)
        rule = ConformalExit(alpha=alpha).fitted(CachedRun(logits_sum=logits[:, :200], labels=labels[:200]))
        logits, labels = logits[:, 200:], labels[200:]
        exits = replay(rule, logits)
        sets = rule.contains(Progress.after(exits), logits[exits - 1, torch.arange(200)])
        covered += int(sets[torch.arange(200), labels].sum())
        total += 200
    assert covered / total >= 1 - alpha


def test_too_few_samples_to_fit_on_are_refused() -> None:
    logits, labels = noisy(59)
    with pytest.raises(CalibrationError, match=r"58 samples are too few .* alpha = 0.1 at 6 timesteps: .* at least 59"):
        ConformalExit().fitted(CachedRun(logits_sum=logits[:, :58], labels=labels[:58]))
    ConformalExit().fitted(CachedRun(logits_sum=logits, labels=labels))
    still = logits[-1:].expand(6, 59, 4)
    with pytest.raises(CalibrationError, match=r"going on helped in 0 of 295 cases \(59 samples, 6 timesteps\)"):
        FailurePredictionExit().fitted(CachedRun(logits_sum=still, labels=labels))


RULES = [
    EntropyExit(threshold=(0.1 + 0.2, 1.0)),
    GapExit(threshold=(0.5, 2.0), accumulation="sum"),
    PatienceExit(patience=4),
    ScaledConfidenceExit(temperatures=(1.0, 2.5)),
    ConformalExit(max_size=2, alpha=0.05, quantiles=(1.0, 0.5)),
    FailurePredictionExit(coefficients=(1, 2, 3, 4, 5, 6, 7, 8.5)),
    TwoSidedExit(inner=ScaledConfidenceExit(temperatures=(1.0, 2.5)), give_up=0.2),
]


@pytest.mark.parametrize("policy", RULES, ids=lambda policy: policy.kind)
def test_a_rule_survives_json(policy: ExitPolicy) -> None:
    assert policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy
    assert isinstance(policy, ExitPolicy)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'fixed' is already registered, by FixedExit; choose another name"):

        @register_policy("fixed")
        class Mine:
            pass

    assert FixedExit.kind == "fixed"


@pytest.mark.parametrize(
    ("rule", "arguments", "message"),
    [
        (EntropyExit, {"threshold": 1.5}, r"threshold is a probability in \(0, 1\], got 1.5"),
        (EntropyExit, {"threshold": (0.5, 0.0)}, r"threshold is a probability in \(0, 1\], got 0.0"),
        (EntropyExit, {"threshold": ()}, "threshold is empty; expected one number, or one per timestep"),
        (EntropyExit, {"accumulation": "max"}, "accumulation must be 'sum' or 'mean', got 'max'"),
        (GapExit, {"threshold": float("nan")}, "threshold must be a finite number, got nan"),
        (GapExit, {"threshold": "wide"}, "threshold must be a finite number, got 'wide'"),
        (PatienceExit, {"patience": 0}, "patience must be an integer from 1"),
        (ScaledConfidenceExit, {"temperatures": (1.0, -2.0)}, "temperatures must be positive, got -2.0"),
        (ConformalExit, {"alpha": 1.0}, r"alpha is a probability in \(0, 1\), got 1.0"),
        (ConformalExit, {"quantiles": (-0.1,)}, "quantiles are -log p, at least 0, got -0.1"),
        (FailurePredictionExit, {"coefficients": (1.0,)}, "coefficients are 8 numbers, of one, confidence, gap, .*got"),
        (TwoSidedExit, {"inner": TwoSidedExit()}, "inner must be a one-sided rule with a score, got TwoSidedExit"),
        (TwoSidedExit, {"inner": FixedExit()}, "inner must be a one-sided rule with a score, got FixedExit"),
        (TwoSidedExit, {"after": 1}, "after must be an integer from 2"),
    ],
)
def test_rules_check_their_numbers(rule: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(**arguments)


@pytest.mark.parametrize("rule", [PatienceExit(), ConformalExit()])
def test_counts_have_one_threshold(rule: Any) -> None:
    with pytest.raises(ValueError, match="is one number for every timestep, got one per timestep"):
        rule.at((1.0, 2.0))


def test_a_policy_nested_too_deep_is_refused() -> None:
    one = {"policy": "two-sided", "inner": {"policy": "confidence"}}
    assert policy_from_json(one) == TwoSidedExit()
    with pytest.raises(CheckpointError, match="'two-sided' cannot be built from its description: inner must be"):
        policy_from_json({"policy": "two-sided", "inner": one})
