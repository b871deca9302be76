"""Thresholds with a promise: Learn-then-Test (Angelopoulos et al. 2021) by fixed-sequence testing.

One part of the exit split fixes a sequence of rules, from the one that never stops early to bolder ones, and
what to bet on each. The other part tests them in that order, each at level δ, up to the first that fails; the
last that passed is taken. If some rule breaks the promise, the first such is accepted with probability at most
δ, and none after it is reached before: so the promise holds with probability 1 - δ over the draw of the second
part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.betting import best_bet, paired_loss_p_value, samples_needed
from seenn.exits.calibrate import FIT_FRACTION, ExitCalibration, check_exit_split, fit_split, judge_exit
from seenn.exits.scored import ScoredExit, exit_scores, first_above
from seenn.metrics.accuracy import correct_per_timestep
from seenn.metrics.exit_curve import exit_curve

Guarantee = Literal["marginal", "conditional"]
Scored = TypeVar("Scored", bound=ScoredExit)

_SEQUENCE = 128  # thresholds tested at most
_LEVELS = 64  # thresholds tried per timestep
_RESERVE = 0.1  # a bold rule must pass its own screening at a tenth of δ, or the test would often end there


def certify_exit(
    logits_sum: Tensor,
    labels: Tensor,
    policy: Scored,
    *,
    max_accuracy_drop: float,
    confidence: float,
    guarantee: Guarantee = "marginal",
    energy_pj: Tensor | None = None,
    state: State | None = None,
) -> ExitCalibration[Scored]:
    """The boldest threshold with ``P(accuracy at T - accuracy at exit > ε) <= δ`` for new images.

    P is over the draw of the exit split; images are independent and from one distribution. ``conditional``
    (Ringel et al., ICML 2024) promises more: for every t at once, the drop is at most ε *among those that
    stopped by t*; the thresholds then differ from step to step. The loss of a sample is right-at-T minus
    right-at-exit.

    Args:
        logits_sum: ``[T, N, K]``, from ``collect_logits`` on the exit split.
        labels: ``[N]``.
        policy: the rule; its own numbers are fitted on the first part.
        max_accuracy_drop: ε in (0, 1), as a fraction.
        confidence: 1 - δ in (0, 1).
        guarantee: on average, or for everyone who stopped by t.
        energy_pj: ``[T, N]``, only to report the mean energy.
        state: as for ``replay``: of rules that look at images.

    Raises:
        ValueError: ε or the confidence out of range, or a rule that cannot have a threshold per timestep.
        CalibrationError: unusable data, or too few samples for even the full run to pass.
    """
    if not 0.0 < max_accuracy_drop < 1.0:
        raise ValueError(f"a guarantee needs a max_accuracy_drop between 0 and 1, got {max_accuracy_drop}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is a probability between 0 and 1, got {confidence}")
    if guarantee not in ("marginal", "conditional"):
        raise ValueError(f"guarantee must be 'marginal' or 'conditional', got {guarantee!r}")
    delta = 1.0 - confidence
    check_exit_split(logits_sum, labels)
    fit, test = fit_split(len(labels))
    if (needed := samples_needed(max_accuracy_drop, delta)) > len(test):
        raise CalibrationError(
            f"{len(labels)} images are too few to promise a drop of at most {max_accuracy_drop} with confidence "
            f"{confidence}: {len(test)} of them test the promise, and that takes at least {needed}; hold out about "
            f"{math.ceil(needed / (1 - FIT_FRACTION)) - len(labels)} more, allow a larger drop or less confidence"
        )
    steps = len(logits_sum) - 1
    if guarantee == "conditional" and steps:
        policy.at((policy.never,) * steps)  # refuses a rule with one threshold before any work
    policy = policy.fitted(logits_sum[:, fit], labels[fit])
    scores, correct = exit_scores(policy, logits_sum, state), correct_per_timestep(logits_sum, labels)
    accepted = certified_thresholds(
        scores, correct, policy, fit, test, margin=max_accuracy_drop, delta=delta, guarantee=guarantee
    )
    if guarantee == "conditional" and steps:
        policy = policy.at(tuple(accepted.tolist()))
    else:
        policy = policy.at(float(accepted[0]) if steps else policy.never)
    return judge_exit(
        logits_sum[:, test],
        labels[test],
        policy,
        energy_pj=None if energy_pj is None else energy_pj[:, test],
        state=None if state is None else tuple(tensor[test] for tensor in state),
    )


def certified_thresholds(
    scores: Tensor,
    correct: Tensor,
    policy: ScoredExit,
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
    screening = _Losses(policy, scores[:, fit], correct[:, fit], margin, everyone)
    testing = _Losses(policy, scores[:, test], correct[:, test], margin, everyone)
    if guarantee == "conditional":
        sequence = _conditional_sequence(screening, delta, len(test) / len(fit))
    else:
        sequence = _marginal_sequence(screening)
    accepted = torch.full((len(scores) - 1,), policy.never, dtype=torch.float64)
    for thresholds in sequence:
        if float(testing.p_values(thresholds, screening.bets(thresholds)).max()) > delta:
            break
        accepted = thresholds
    return accepted


class _Losses:
    """Scores and correctness of some samples, and how a rule with thresholds ``[T-1]`` does on them.

    Figures are for those that stopped by t, for each t = 1 … T, ``[T]``; with ``everyone`` for t = T alone, ``[1]``.
    """

    def __init__(self, policy: ScoredExit, scores: Tensor, correct: Tensor, margin: float, everyone: bool) -> None:
        self.policy, self.margin, self.everyone = policy, margin, everyone
        self.scores, self.correct = scores, correct
        self._exact = scores.double()
        self._loss = correct[-1].long() - correct.long()  # [T, N]

    def counts(self, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Worse, same and better."""
        stopped = first_above(self._exact, thresholds)
        loss = self._loss.gather(0, stopped[None])[0]
        table = torch.bincount(stopped * 3 + 1 - loss, minlength=3 * len(self.scores)).view(-1, 3)
        table = table.sum(0, keepdim=True) if self.everyone else table.cumsum(0)
        return table[:, 0], table[:, 1], table[:, 2]

    def bets(self, thresholds: Tensor) -> Tensor:
        """What to bet on other samples."""
        return best_bet(*self.counts(thresholds), self.margin)

    def p_values(self, thresholds: Tensor, bets: Tensor, weight: float = 1.0) -> Tensor:
        """p-value of 'the drop exceeds the margin'.

        0 where nobody can have stopped: there is nothing to promise. ``weight`` counts each sample so many times.
        """
        worse, same, better = (weight * count for count in self.counts(thresholds))
        p_values = paired_loss_p_value(worse, same, better, self.margin, bets)
        if not self.everyone:
            p_values[:-1].masked_fill_((thresholds >= self.policy.never).cummin(dim=0).values, 0.0)
        return p_values


def _marginal_sequence(screening: _Losses) -> Iterator[Tensor]:
    """One threshold for every t, falling through those at which something changes for the screening part."""
    policy, steps = screening.policy, len(screening.scores) - 1
    levels = exit_curve(screening.scores, screening.correct).threshold.flip(0)
    chosen = levels[torch.linspace(0, len(levels) - 1, min(_SEQUENCE, len(levels))).round().long()]
    for level in chosen.clamp(policy.least, policy.never).tolist():
        yield torch.full((steps,), level, dtype=torch.float64)


def _conditional_sequence(screening: _Losses, delta: float, weight: float) -> Iterator[Tensor]:
    """Lets samples stop at T-1, then at T-2, … each time at the lowest threshold that passes the screening."""
    policy, steps = screening.policy, len(screening.scores) - 1
    thresholds = torch.full((steps,), policy.never, dtype=torch.float64)
    for t in reversed(range(steps)):
        ordered = screening.scores[t].double().clamp(policy.least, policy.never).sort(descending=True).values
        levels = ordered[torch.linspace(0, len(ordered) - 1, _LEVELS).round().long()]
        passing, failing = -1, _LEVELS
        while failing - passing > 1:  # the drop grows as the threshold falls, nearly: bisect
            middle = (passing + failing) // 2
            thresholds[t] = levels[middle]
            p_values = screening.p_values(thresholds, screening.bets(thresholds), weight)
            passes = float(p_values.max()) <= _RESERVE * delta
            passing, failing = (middle, failing) if passes else (passing, middle)
        thresholds[t] = levels[passing] if passing >= 0 else policy.never
        if passing >= 0:
            yield thresholds.clone()
