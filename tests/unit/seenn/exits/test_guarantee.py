"""Guarantees, on a population whose true accuracies are known."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits import (
    ConfidenceExit,
    ConformalExit,
    FailurePredictionExit,
    GapExit,
    PatienceExit,
    ScoredExit,
    calibrate_exit,
    exit_scores,
    replay,
)
from seenn.exits.guarantees.betting import BETS, best_bet, paired_loss_p_value, samples_needed
from seenn.exits.guarantees.learn_then_test import certified_thresholds

T, K, POPULATION, N, SPLITS = 4, 4, 20_000, 1200, 100
DROP, DELTA = 0.03, 0.1
#: Above δ by more than three standard deviations of the rate in so many splits.
HIGHEST = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / SPLITS)


@pytest.fixture(scope="module")
def population() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, K, (POPULATION,), generator=random)
    signal = 3 * torch.rand(POPULATION, 1, generator=random) * torch.nn.functional.one_hot(labels, K)
    return (signal + 1.2 * torch.randn(T, POPULATION, K, generator=random)).cumsum(0), labels


def drops(policy: ScoredExit, logits: Tensor, labels: Tensor) -> list[float]:
    """How much accuracy is lost by those that stopped by t, for each t; the last is everyone."""
    exits = replay(policy, logits)
    correct = logits.argmax(-1) == labels
    loss = correct[-1].double() - correct[exits - 1, torch.arange(len(labels))].double()
    return [float(loss[exits <= t].mean()) if bool((exits <= t).any()) else 0.0 for t in range(1, T + 1)]


def violations(population: tuple[Tensor, Tensor], choose: Any) -> tuple[float, float]:
    """How often in random splits the rule loses more than it may: on average, and among those stopped by some t."""
    logits, labels = population
    marginal = conditional = 0
    for seed in range(SPLITS):
        picked = torch.randint(0, POPULATION, (N,), generator=torch.Generator().manual_seed(seed))
        found = choose(logits[:, picked], labels[picked], ConfidenceExit(accumulation="sum"), max_accuracy_drop=DROP)
        lost = drops(found.policy, logits, labels)
        marginal += lost[-1] > DROP
        conditional += max(lost) > DROP
    return marginal / SPLITS, conditional / SPLITS


def test_the_marginal_guarantee_is_broken_no_more_often_than_said(population: tuple[Tensor, Tensor]) -> None:
    marginal, conditional = violations(population, partial(calibrate_exit, confidence=1 - DELTA))
    assert marginal <= HIGHEST
    assert conditional > HIGHEST  # it never guaranteed this


def test_the_conditional_guarantee_is_broken_no_more_often_than_said(population: tuple[Tensor, Tensor]) -> None:
    certified = partial(calibrate_exit, confidence=1 - DELTA, guarantee="conditional")
    marginal, conditional = violations(population, certified)
    assert marginal <= conditional <= HIGHEST


def test_without_a_correction_it_is_broken_more_often(population: tuple[Tensor, Tensor]) -> None:
    marginal, conditional = violations(population, calibrate_exit)
    assert HIGHEST < marginal <= conditional


@pytest.mark.parametrize("rule", [ConfidenceExit(accumulation="sum"), GapExit(), FailurePredictionExit()])
@pytest.mark.parametrize("guarantee", ["marginal", "conditional"])
def test_a_guarantee_still_saves_time(population: tuple[Tensor, Tensor], rule: Any, guarantee: Any) -> None:
    logits, labels = population[0][:, :6000], population[1][:6000]
    found = calibrate_exit(logits, labels, rule, max_accuracy_drop=DROP, confidence=0.9, guarantee=guarantee)
    assert found.mean_timesteps < 0.8 * T
    assert found.accuracy >= found.full_accuracy - DROP
    assert found.samples == 4000
    assert isinstance(found.policy.threshold, tuple) == (guarantee == "conditional")
    assert found == calibrate_exit(logits, labels, rule, max_accuracy_drop=DROP, confidence=0.9, guarantee=guarantee)


@pytest.mark.parametrize("guarantee", ["marginal", "conditional"])
def test_a_single_timestep_has_nothing_to_choose(population: tuple[Tensor, Tensor], guarantee: Any) -> None:
    logits, labels = population[0][:1, :3000], population[1][:3000]
    found = calibrate_exit(logits, labels, GapExit(), max_accuracy_drop=0.1, confidence=0.9, guarantee=guarantee)
    assert (found.mean_timesteps, found.accuracy) == (1.0, found.full_accuracy)


def test_a_rule_is_applied_as_it_was_tested(population: tuple[Tensor, Tensor]) -> None:
    logits, labels = population[0][:, :3000].double() * (1 + 1e-9), population[1][:3000]
    found = calibrate_exit(logits, labels, GapExit(), max_accuracy_drop=DROP, confidence=0.9, guarantee="conditional")
    thresholds = torch.tensor(found.policy.threshold, dtype=torch.float64)[:, None]
    stops = torch.cat([exit_scores(found.policy, logits)[:-1] > thresholds, torch.ones(1, 3000).bool()])
    assert torch.equal(stops.to(torch.uint8).argmax(0) + 1, replay(found.policy, logits))


def test_counts_have_a_guarantee_on_average(population: tuple[Tensor, Tensor]) -> None:
    logits, labels = population[0][:, :6000], population[1][:6000]
    found = calibrate_exit(logits, labels, PatienceExit(), max_accuracy_drop=0.1, confidence=0.9)
    assert found.accuracy >= found.full_accuracy - 0.1
    with pytest.raises(ValueError, match="max_size is one number for every timestep"):
        calibrate_exit(logits, labels, ConformalExit(), max_accuracy_drop=0.1, confidence=0.9, guarantee="conditional")


@pytest.mark.parametrize("margin", [0.05, 0.2])
@pytest.mark.parametrize("better", [0.0, 0.1, 0.3])
def test_the_p_value_is_valid_at_the_boundary(margin: float, better: float) -> None:
    """Exactly, by summing over every outcome of 40 samples with a mean loss of just ``margin``."""
    n, worse = 40, better + margin
    outcomes = [(a, b) for a, b in itertools.product(range(n + 1), repeat=2) if a + b <= n]
    up, down = (torch.tensor(column) for column in zip(*outcomes, strict=True))
    same = 1 - worse - better
    chance = torch.tensor(
        [math.comb(n, a) * math.comb(n - a, b) * worse**a * better**b * same ** (n - a - b) for a, b in outcomes]
    )
    assert chance.sum().item() == pytest.approx(1.0)
    for bet in BETS[::4]:
        p = paired_loss_p_value(up, n - up - down, down, margin, bet)
        for delta in (0.01, 0.05, 0.1, 0.5):
            assert chance[p <= delta].sum().item() <= delta


def test_the_p_value_falls_with_evidence() -> None:
    def p(worse: int, same: int, better: int) -> float:
        counts = [torch.tensor(count) for count in (worse, same, better)]
        return float(paired_loss_p_value(*counts, 0.02, best_bet(*counts, 0.02)))

    assert p(0, 0, 0) == 1.0
    assert p(0, 2000, 0) < p(0, 500, 0) < p(1, 499, 0) < p(4, 496, 0)
    assert p(20, 460, 40) < p(20, 480, 20)


def test_fewer_samples_than_needed_prove_nothing() -> None:
    needed, zero = samples_needed(0.02, 0.05), torch.tensor(0)

    def lowest(samples: int) -> float:
        return float(paired_loss_p_value(zero, torch.tensor(samples), zero, 0.02, BETS).min())

    assert lowest(needed) <= 0.05 < lowest(needed - 1)


def test_the_best_bet_survives_a_loss() -> None:
    zero = torch.tensor(0)
    assert 0.5 < best_bet(zero, torch.tensor(10_000), zero, 0.01) < 1.0
    assert best_bet(torch.tensor(100), torch.tensor(900), zero, 0.01) == BETS[-1]  # nothing to win


@pytest.mark.parametrize("counts", [(0, 60, 0), (1, 30, 1), (3, 200, 5), (2, 3, 9), (40, 10, 60)], ids=str)
def test_the_best_bet_is_on_one_loss_and_one_gain_more(counts: tuple[int, int, int]) -> None:
    margin, (worse, same, better) = 0.1, counts

    def capital(bet: float) -> float:
        stake = bet / (1 - margin)
        factors = [
            (1 + stake * (margin - loss), times) for loss, times in ((1, worse + 1), (0, same), (-1, better + 1))
        ]
        return sum(times * (math.log(factor) if factor > 0 else -math.inf) for factor, times in factors)

    best = best_bet(*map(torch.tensor, counts), margin)
    assert float(best) == max(BETS.tolist(), key=capital)
    assert BETS[-1] < best < BETS[0]


def test_a_step_gets_the_lowest_of_64_scores_from_highest_to_lowest_that_passes_the_screening() -> None:
    """Of 127 samples every second one, the first and the last among them; those sure below 0.7 are wrong."""
    fit, test, margin, delta = 127, 2540, 0.1, 0.05
    sure = torch.cat([torch.randperm(n, generator=torch.Generator().manual_seed(n)) / n for n in (fit, test)])
    right = torch.stack([(sure > 0.7) | (torch.arange(fit + test) >= fit), torch.ones(fit + test)]).bool()
    found = certified_thresholds(
        torch.stack([sure, sure]),
        right,
        ConfidenceExit(),
        torch.arange(fit),
        torch.arange(fit, fit + test),
        margin=margin,
        delta=delta,
        guarantee="conditional",
    )

    def passes(level: float) -> bool:
        stopped = sure[:fit] > level
        worse = (stopped & ~right[0, :fit]).sum()
        counts = (worse, stopped.sum() - worse, torch.tensor(0))
        bet = best_bet(*counts, margin)
        weighted = (count * test / fit for count in counts)
        return float(paired_loss_p_value(*weighted, margin, bet)) <= delta / 10

    levels = sure[:fit].double().sort(descending=True).values[::2].tolist()
    assert len(levels) == 64
    assert found.tolist() == [min(level for level in levels if passes(level))]
    assert not passes(levels[-1])


def test_too_few_samples_for_a_guarantee_are_counted(population: tuple[Tensor, Tensor]) -> None:
    logits, labels = population[0][:, :300], population[1][:300]
    message = (
        r"300 images are too few .* 0.01 with confidence 0.95: 200 of them test .* least 299; hold out about 149 more"
    )
    with pytest.raises(CalibrationError, match=message):
        calibrate_exit(logits, labels, GapExit(), max_accuracy_drop=0.01, confidence=0.95)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_accuracy_drop": 0.0}, "a guarantee needs a max_accuracy_drop between 0 and 1, got 0.0"),
        ({"confidence": 1.0}, "confidence is a probability between 0 and 1, got 1.0"),
        ({"guarantee": "some"}, "guarantee must be 'marginal', 'conditional' or 'expected', got 'some'"),
    ],
)
def test_guarantees_that_mean_nothing_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate_exit(
            torch.zeros(2, 3, 2),
            torch.tensor([0, 1, 0]),
            GapExit(),
            **{"max_accuracy_drop": 0.1, "confidence": 0.9} | options,
        )
