"""The lines that carry the guarantee, each on samples made so that the result is another without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import pytest
import torch
from torch import Tensor

from seenn.exits import CachedRun, ConfidenceExit, ExitTarget, GapExit, Guarantee, calibrate_exit, first_above, replay
from seenn.exits.calibration.replay import fit_split
from seenn.exits.guarantees.betting import best_bet, paired_loss_p_value
from seenn.exits.guarantees.learn_then_test import certified_thresholds

RULE = GapExit()
MARGIN, DELTA = 0.05, 0.05
FIT, TEST = 300, 600
#: Parts of T = 3 steps: scores, and whether the answers are right.
Part = tuple[list[float], list[bool]]
Parts = tuple[Tensor, Tensor, Tensor, Tensor]
FINE, WRONG = [True, True, True], [False, False, True]
EQUAL = [0.5, 0.5, 0.5]


def samples(fit: Part, test: Part) -> Parts:
    """Scores and correctness ``[T, N]``, and indices of the samples that fix the sequence and of those that test it.

    Those of a part are alike, but for scores of the first that are spread around the second's.
    """
    indices = fit_split(FIT + TEST)
    scores, correct = torch.zeros(3, FIT + TEST), torch.zeros(3, FIT + TEST, dtype=torch.bool)
    for index, (values, right) in zip(indices, (fit, test), strict=True):
        scores[:, index], correct[:, index] = torch.tensor(values)[:, None], torch.tensor(right)[:, None]
    scores[:, indices[0]] += torch.linspace(0.01, -0.01, FIT)
    return scores, correct, *indices


def stops(parts: Parts, guarantee: Guarantee = "marginal", delta: float = DELTA) -> list[int]:
    """After how many steps the samples that test stop at the thresholds that were accepted."""
    scores, correct, fit, test = parts
    found = certified_thresholds(scores, correct, RULE, fit, test, margin=MARGIN, delta=delta, guarantee=guarantee)
    exits: list[int] = (1 + first_above(scores[:, test], found)).unique().tolist()
    return exits


def test_testing_ends_at_the_first_rule_that_fails() -> None:
    # Below 0.9 everybody stops at t = 2 and is wrong; below 0.1 at t = 1 and is right: a bold rule passes by chance.
    scores, chance = [0.1, 0.9, 0.5], [True, False, True]
    assert stops(samples((scores, chance), (scores, chance))) == [3]
    assert stops(samples((scores, FINE), (scores, FINE))) == [1]


def test_testing_of_one_timestep_after_the_other_ends_at_the_first_that_fails() -> None:
    # Those that fix the sequence are always right. Of the others, who stops at t = 2 is wrong, at t = 1 right.
    assert stops(samples((EQUAL, FINE), (EQUAL, [True, False, True])), "conditional") == [3]
    assert stops(samples((EQUAL, FINE), (EQUAL, FINE)), "conditional") == [1]


def some_wrong(guarantee: Guarantee) -> tuple[Parts, float]:
    """Three of the first part and twelve of the second are wrong before T; and the p-value of stopping at once.

    The three are among the first to stop as one threshold falls, and the last where a threshold is searched: then
    what is bet on the twelve is the same wherever they stop.
    """
    parts = samples((EQUAL, FINE), (EQUAL, FINE))
    _, correct, fit, test = parts
    first = slice(3) if guarantee == "marginal" else slice(-4, -1)
    correct[:2, fit[first]] = correct[:2, test[:12]] = False
    counts = [torch.tensor(n) for n in (12, TEST - 12, 0)]
    bets = {float(best_bet(torch.tensor(3), torch.tensor(n), torch.tensor(0), MARGIN)) for n in (FIT - 3, FIT - 4)}
    assert len(bets) == 1  # at the lowest threshold the sample with the lowest score goes on
    p = float(paired_loss_p_value(*counts, MARGIN, torch.tensor(bets.pop())))
    assert p > 1.5 * float(paired_loss_p_value(*counts, MARGIN, best_bet(*counts, MARGIN))) > 1e-5
    return parts, p


@pytest.mark.parametrize("guarantee", ["marginal", "conditional"])
def test_a_rule_passes_at_exactly_its_level_with_the_bet_of_the_other_samples(guarantee: Guarantee) -> None:
    parts, p = some_wrong(guarantee)
    assert stops(parts, guarantee, delta=p * 1.001) == [1]
    assert stops(parts, guarantee, delta=p * 0.999) == [3]


@pytest.mark.parametrize("guarantee", ["marginal", "conditional"])
def test_that_level_is_one_minus_the_confidence(guarantee: Guarantee) -> None:
    (scores, correct, _, _), p = some_wrong(guarantee)
    lead, labels = torch.where(correct, scores, -scores), torch.arange(FIT + TEST) % 2
    lead = torch.where(labels == 0, lead, -lead)
    logits, options = torch.stack([lead, torch.zeros_like(lead)], dim=-1), {"max_accuracy_drop": MARGIN}
    for level, steps in ((1.001, 1.0), (0.999, 3.0)):
        found = calibrate_exit(logits, labels, RULE, confidence=1 - p * level, guarantee=guarantee, **options)
        assert found.mean_timesteps == steps


def test_the_conditional_guarantee_is_tested_on_those_that_stopped() -> None:
    # Ten of 600 stop at t = 2, all wrong: little on average, and everything to those ten.
    parts = samples((EQUAL, FINE), ([0.0, 0.0, 0.5], FINE))
    scores, correct, _, test = parts
    scores[1, test[:10]], correct[1, test[:10]] = 0.5, False
    assert stops(parts, "conditional") == [3]
    scores[1, test] = 0.5  # now everybody stops there, and those ten are few of them
    assert stops(parts, "conditional") == [2]


@pytest.mark.parametrize("guarantee", ["marginal", "conditional"])
def test_samples_that_fix_the_sequence_do_not_test_it(guarantee: Guarantee) -> None:
    assert stops(samples((EQUAL, FINE), (EQUAL, WRONG)), guarantee) == [3]


@dataclass(frozen=True, kw_only=True)
class Remembering(ConfidenceExit):
    """Says whom it was fitted on."""

    seen: tuple[float, ...] = ()

    def fitted(self, run: CachedRun) -> Self:
        return replace(self, seen=tuple(run.logits_sum[0, :, 0].tolist()))


def test_rules_are_fitted_apart_from_the_samples_that_test_them() -> None:
    logits, labels = torch.randn(3, 900, 2, generator=torch.Generator().manual_seed(0)), torch.arange(900) % 2
    found = calibrate_exit(logits, labels, Remembering(), max_accuracy_drop=0.2, confidence=0.9)
    fit, test = fit_split(900)
    assert found.policy.seen == tuple(logits[0, fit, 0].tolist())
    assert found.samples == len(test) == 600
    assert sorted([*fit.tolist(), *test.tolist()]) == list(range(900))
    full = logits[-1, test].argmax(-1) == labels[test]
    assert found.full_accuracy == float(full.double().mean())


def test_a_score_at_the_threshold_does_not_stop() -> None:
    scores = torch.tensor([[0.5, 0.5], [0.6, 0.5], [9.0, 9.0]], dtype=torch.float64)
    assert first_above(scores, torch.tensor([0.5, 0.5]).double()).tolist() == [1, 2]
    logits = torch.stack([scores, torch.zeros_like(scores)], dim=-1)
    assert (replay(GapExit(threshold=(0.5, 0.5)), logits) - 1).tolist() == [1, 2]


def test_whoever_has_not_stopped_before_stops_at_the_last_point() -> None:
    # The last step's score is below every threshold: it decides nothing.
    scores = torch.tensor([[0.0], [0.0], [-9.0]], dtype=torch.float64)
    assert first_above(scores, torch.tensor([RULE.never, RULE.never])).tolist() == [2]
    assert replay(GapExit(threshold=RULE.never), torch.zeros(3, 1, 2)).tolist() == [3]
    assert stops(samples((EQUAL, WRONG), (EQUAL, WRONG))) == [3]


def test_a_guarantee_is_of_a_drop_and_has_a_confidence() -> None:
    with pytest.raises(ValueError, match="a guarantee needs a confidence, the probability that it holds with"):
        ExitTarget(max_accuracy_drop=0.1, guarantee="conditional")
    with pytest.raises(ValueError, match="a guarantee needs a max_accuracy_drop between 0 and 1, got None"):
        ExitTarget(target_timesteps=2.0, confidence=0.9)
