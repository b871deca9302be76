"""Thresholds whose risk is bounded on average: conformal risk control (Angelopoulos et al., ICLR 2024; 2208.02814).

Weaker than Learn-then-Test, which holds for nearly every exit split, and possible with far fewer samples: over the draw
of exit split and new sample together, the expected loss is at most ε. A sample's loss is 1 where its answer at the exit
is wrong and that at T right, and it must not fall as the threshold does: so it stays 1 below the highest threshold at
which it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import CachedRun, fit_split
from seenn.exits.calibration.target import ExitCalibration, ExitTarget

if TYPE_CHECKING:
    from seenn.exits.scored import ScoredExit

Scored = TypeVar("Scored", bound="ScoredExit")


def risk_controlled_rule(rule: Scored, run: CachedRun, target: ExitTarget) -> ExitCalibration[Scored]:
    """``rule`` at the lowest threshold with ``E[loss] <= ε`` for a new sample; one threshold for all exit points.

    Where samples have groups, for a sample of a new group: groups are exchangeable, samples of one are not, and a
    group's loss is the mean of theirs. Numbers of the rule's own are fitted on a third of the samples; figures are
    those of the others.

    Args:
        rule: with any threshold.
        run: one pass over the exit split, as the rule makes it.
        target: ε is its ``max_accuracy_drop``.

    Raises:
        CalibrationError: too few samples for even the full run to pass.
    """
    assert target.max_accuracy_drop is not None
    if rule.learned:
        fit, rest = fit_split(len(run), run.groups)
        rule, run = rule.fitted(run[fit]), run[rest]
    weights = run.weights
    margin, n = target.max_accuracy_drop, round(float(weights.sum()))
    allowed = margin * (n + 1) - 1 + 1e-9  # (losses + 1) / (n + 1) <= ε
    if allowed < 0:
        what = "images" if run.groups is None else "groups of images"
        raise CalibrationError(
            f"{n} {what} are too few to bound the expected loss by {margin}: that takes {math.ceil(1 / margin) - 1} at "
            "least; hold out more, or allow more"
        )
    threshold = lowest_threshold(run.scores(rule), run.correct(), allowed, weights)
    return run.judged(rule.at(min(max(threshold, rule.least), rule.never)))


def lowest_threshold(scores: Tensor, correct: Tensor, allowed: float, weights: Tensor) -> float:
    """Below which samples of a weight of more than ``allowed`` have a loss; -inf for none.

    From scores and correctness ``[P, N]``, and weights ``[N]``.

    A sample leaves at point p under the thresholds between the highest score before p and that up to p.
    """
    highest = scores[:-1].double().cummax(0).values  # [P-1, N]
    rises = torch.ones_like(highest, dtype=torch.bool)
    rises[1:] = highest[1:] > highest[:-1]
    lost = rises & correct[-1] & ~correct[:-1]
    first = highest.masked_fill(~lost, -torch.inf).amax(0) if len(highest) else highest.new_empty(0)
    ordered, place = first.sort(descending=True)
    over = weights[place].cumsum(0) > allowed
    return float(ordered[int(over.long().argmax())]) if bool(over.any()) else -math.inf
