"""Thresholds with a guarantee: Learn-then-Test (Angelopoulos et al. 2021) by fixed-sequence testing.

One part of the exit split fixes a sequence of rules, from the one that never stops early to bolder ones, and
what to bet on each. The other part tests them in that order, each at level δ, up to the first that fails; the
last that passed is taken. If some rule breaks the guarantee, the first such is accepted with probability at most
δ, and none after it is reached before: so the guarantee holds with probability 1 - δ over the draw of the second
part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import FIT_FRACTION, CachedRun, first_above, fit_split
from seenn.exits.calibration.target import ExitCalibration, ExitTarget, Guarantee
from seenn.exits.guarantees.betting import best_bet, paired_loss_p_value, samples_needed
from seenn.metrics import exit_curve

if TYPE_CHECKING:
    from seenn.exits.scored import ScoredExit

Scored = TypeVar("Scored", bound="ScoredExit")

_SEQUENCE = 128  # thresholds tested at most
_LEVELS = 64  # thresholds tried per timestep
_RESERVE = 0.1  # a bold rule must pass its own screening at a tenth of δ, or the test would often end there


def certified_rule(rule: Scored, run: CachedRun, target: ExitTarget) -> ExitCalibration[Scored]:
    """``rule`` at the boldest threshold with ``P(accuracy at T - accuracy at exit > ε) <= δ`` for new samples.

    P is over the draw of the exit split; samples are independent and from one distribution. ``conditional``
    (Ringel et al., ICML 2024) guarantees more: for every exit point at once, the drop is at most ε *among those
    that stopped by then*; the thresholds then differ from point to point. The loss of a sample is right-at-T minus
    right-at-exit. Numbers of the rule's own are fitted on the first part; figures are those of the second.

    Args:
        rule: with any threshold.
        run: one pass over the exit split, as the rule makes it (``CachedRun.of``).
        target: ε is its ``max_accuracy_drop``, δ is 1 - ``confidence``.

    Raises:
        ValueError: a rule that cannot have a threshold per timestep, where the guarantee needs them.
        CalibrationError: too few samples for even the full run to pass.
    """
    assert target.max_accuracy_drop is not None
    assert target.confidence is not None
    margin, delta = target.max_accuracy_drop, 1.0 - target.confidence
    fit, test = fit_split(len(run))
    if (needed := samples_needed(margin, delta)) > len(test):
        raise CalibrationError(
            f"{len(run)} images are too few to guarantee a drop of at most {margin} with confidence "
            f"{target.confidence}: {len(test)} of them test the guarantee, and that takes at least {needed}; hold out "
            f"about {math.ceil(needed / (1 - FIT_FRACTION)) - len(run)} more, allow a larger drop or less confidence"
        )
    steps = len(run.cost) - 1
    guarantee = target.guarantee or "marginal"
    per_timestep = guarantee == "conditional" and steps > 0
    if per_timestep:
        rule.at((rule.never,) * steps)  # refuses a rule with one threshold before any work
    rule = rule.fitted(run[fit])
    accepted = certified_thresholds(
        run.scores(rule), run.correct(), rule, fit, test, margin=margin, delta=delta, guarantee=guarantee
    ).tolist()
    rule = rule.at(tuple(accepted) if per_timestep else accepted[0] if steps else rule.never)
    return run[test].judged(rule)


def certified_thresholds(
    scores: Tensor,
    correct: Tensor,
    rule: ScoredExit,
    fit: Tensor,
    test: Tensor,
    *,
    margin: float,
    delta: float,
    guarantee: Guarantee,
) -> Tensor:
    """The last thresholds of the sequence that passed, float64 ``[T-1]``, from scores and correctness ``[T, N]``.

    ``fit`` and ``test`` are the indices of the samples that fix the sequence, and of those that test it.
    """
    everyone = guarantee == "marginal"
    scores = scores.double()
    screening = _Losses(rule, scores[:, fit], correct[:, fit], margin, everyone)
    testing = _Losses(rule, scores[:, test], correct[:, test], margin, everyone)
    if guarantee == "conditional":
        sequence = _conditional_sequence(screening, delta, len(test) / len(fit))
    else:
        sequence = _marginal_sequence(screening)
    accepted = torch.full((len(scores) - 1,), rule.never, dtype=torch.float64)
    for thresholds in sequence:
        if float(testing.p_values(thresholds, screening.bets(thresholds)).max()) > delta:
            break
        accepted = thresholds
    return accepted


@dataclass(frozen=True)
class _Losses:
    """How a rule with thresholds ``[T-1]`` does on some samples.

    Figures are for those that stopped by t, for each t = 1 … T, ``[T]``; with ``everyone`` for t = T alone, ``[1]``.
    """

    rule: ScoredExit
    scores: Tensor  # float64 [T, N]
    correct: Tensor  # bool [T, N]
    margin: float
    everyone: bool

    def counts(self, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Worse, same and better."""
        stopped = first_above(self.scores, thresholds)
        loss = self.correct[-1].long() - self.correct.gather(0, stopped[None])[0].long()
        table = torch.bincount(stopped * 3 + 1 - loss, minlength=3 * len(self.scores)).view(-1, 3)
        table = table.sum(0, keepdim=True) if self.everyone else table.cumsum(0)
        return table[:, 0], table[:, 1], table[:, 2]

    def bets(self, thresholds: Tensor) -> Tensor:
        """What to bet on other samples."""
        return best_bet(*self.counts(thresholds), self.margin)

    def p_values(self, thresholds: Tensor, bets: Tensor, weight: float = 1.0) -> Tensor:
        """p-value of 'the drop exceeds the margin'.

        0 where nobody can have stopped: nothing can be lost. ``weight`` counts each sample so many times.
        """
        worse, same, better = (weight * count for count in self.counts(thresholds))
        p_values = paired_loss_p_value(worse, same, better, self.margin, bets)
        if not self.everyone:
            p_values[:-1].masked_fill_((thresholds >= self.rule.never).cummin(dim=0).values, 0.0)
        return p_values


def _marginal_sequence(screening: _Losses) -> Iterator[Tensor]:
    """One threshold for every t, falling through those at which something changes for the screening part."""
    rule, steps = screening.rule, len(screening.scores) - 1
    levels = exit_curve(screening.scores, screening.correct).threshold.flip(0)
    chosen = levels[torch.linspace(0, len(levels) - 1, min(_SEQUENCE, len(levels))).round().long()]
    for level in chosen.clamp(rule.least, rule.never).tolist():
        yield torch.full((steps,), level, dtype=torch.float64)


def _conditional_sequence(screening: _Losses, delta: float, weight: float) -> Iterator[Tensor]:
    """Lets samples stop at T-1, then at T-2, … each time at the lowest threshold that passes the screening."""
    rule, steps = screening.rule, len(screening.scores) - 1
    thresholds = torch.full((steps,), rule.never, dtype=torch.float64)
    for t in reversed(range(steps)):
        ordered = screening.scores[t].clamp(rule.least, rule.never).sort(descending=True).values
        levels = ordered[torch.linspace(0, len(ordered) - 1, _LEVELS).round().long()]
        passing, failing = -1, _LEVELS
        while failing - passing > 1:  # the drop grows as the threshold falls, nearly: bisect
            middle = (passing + failing) // 2
            thresholds[t] = levels[middle]
            p_values = screening.p_values(thresholds, screening.bets(thresholds), weight)
            passes = float(p_values.max()) <= _RESERVE * delta
            passing, failing = (middle, failing) if passes else (passing, middle)
        thresholds[t] = levels[passing] if passing >= 0 else rule.never
        if passing >= 0:
            yield thresholds.clone()
