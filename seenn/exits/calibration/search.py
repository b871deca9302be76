"""The best threshold of a rule on a cached run, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.calibration.result import ExitCalibration, judge_exit
from seenn.exits.calibration.target import ExitTarget
from seenn.metrics import ExitCurve

if TYPE_CHECKING:
    from seenn.exits.scored import ScoredExit

FIT_FRACTION = 1 / 3  # of the exit split: what a rule's own numbers are fitted on, not its threshold
_SPLIT_SEED = 0

Scored = TypeVar("Scored", bound="ScoredExit")


def search_threshold(rule: Scored, run: CachedRun, target: ExitTarget) -> ExitCalibration[Scored]:
    """``rule`` at the best of *all* thresholds for ``target``; candidates are the scores that occurred.

    A rule with numbers of its own (``learns``) is fitted first, on a third of the samples; its threshold and
    all figures come from the other two.

    Raises:
        CalibrationError: a target that no threshold meets; the message names the nearest.
    """
    if rule.learns:
        fit, rest = fit_split(len(run))
        rule = rule.fitted(run.logits_sum[:, fit], run.labels[fit])
        run = run[rest]
    curve = run.curve(rule)
    if target.given:
        # Not where a score must exceed less than the least threshold: an entropy score is 0 for equal outputs, and no
        # threshold is below 0. Never stopping early is always possible.
        possible = curve.threshold >= rule.least
        possible[-1] = True
        reachable = curve.only(possible)
        score = float(reachable.threshold[best_point(reachable, target, rule.kind)])
        rule = rule.at(min(max(score, rule.least), rule.never))
    return judge_exit(run, rule, curve=curve)


def best_point(curve: ExitCurve, target: ExitTarget, kind: str) -> int:
    """Index of the point of ``curve``, whose last is full T, that meets ``target``.

    With a drop ε: the cheapest whose accuracy is at most ε below that at T. With a mean cost or energy: the most
    accurate within it.

    Raises:
        CalibrationError: no point meets it; the message names the nearest.
    """
    if target.max_accuracy_drop is not None:
        # Accuracies are k/N: the allowance keeps «exactly ε below» within ε when floats round.
        return curve.cheapest(float(curve.accuracy[-1]) - target.max_accuracy_drop - 1e-12)
    in_steps = target.target_timesteps is not None
    limit = target.target_timesteps if in_steps else target.target_energy
    means = curve.mean_timesteps if in_steps else curve.mean_energy_pj
    assert limit is not None
    assert means is not None
    least, most = float(means[0]), float(means[-1])
    if not least <= limit <= most:
        unit, each = ("timesteps", "") if in_steps else ("pJ", " per image")
        raise CalibrationError(
            f"no threshold of the {kind} rule gives a mean of {limit:.6g} {unit}{each}: it can give {least:.6g} to "
            f"{most:.6g} {unit}, and the nearest is {min(max(limit, least), most):.6g}; ask for that, or use another "
            "rule"
        )
    return curve.best_within(limit, means)


def fit_split(samples: int) -> tuple[Tensor, Tensor]:
    """Indices of a third of the samples, and of the others; the same for every run."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return order.tensor_split([round(samples * FIT_FRACTION)])  # type: ignore[return-value]
