"""Rules that stop once a score exceeds a threshold: what calibration, curves and guarantees build on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.exits.calibration.replay import CachedRun, fit_split
from seenn.exits.calibration.target import ExitCalibration, ExitTarget
from seenn.exits.deprecated import accept_timesteps
from seenn.exits.guarantees.learn_then_test import certified_rule
from seenn.exits.guarantees.risk_control import risk_controlled_rule
from seenn.exits.progress import Progress
from seenn.exits.scores import at_point, numbers, softmax_confidence

Threshold = float | tuple[float, ...]  # one for every exit point, or one for each but the last: t = 1 … T-1


class ScoredExit(ABC):
    """Stop at the first exit point with ``score > limit``: an exit policy that calibration can move."""

    kind: ClassVar[str]
    summary: ClassVar[str] = ""  # when it stops, in a line
    threshold_field: ClassVar[str] = "threshold"  # what a person sets as its threshold
    learned: ClassVar[tuple[str, ...]] = ()  # fields that ``fitted`` finds, beside the threshold

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        accept_timesteps(cls)

    @property
    @abstractmethod
    def least(self) -> float:
        """The smallest threshold."""

    @property
    @abstractmethod
    def never(self) -> float:
        """The largest threshold, which no score exceeds: it never stops early."""

    @abstractmethod
    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        """How safe it is to stop, ``[B]``, and the new state; it does not depend on the threshold."""

    @abstractmethod
    def limit(self, progress: Progress) -> Tensor | float:
        """What the score must exceed here: one number, or ``[B]``."""

    @abstractmethod
    def at(self, threshold: Threshold) -> Self:
        """The same rule with another threshold."""

    def fitted(self, run: CachedRun) -> Self:
        """The same rule with its own numbers fitted on these samples; deterministic."""
        return self

    def calibrate(self, run: CachedRun, target: ExitTarget) -> ExitCalibration[Self]:
        """The rule at the best of *all* thresholds for ``target``; candidates are the scores that occurred in ``run``.

        A rule that learns is fitted first, on a third of the samples; its threshold and all figures come from the
        other two.

        Raises:
            CalibrationError: a target that no threshold meets; the message names the nearest.
        """
        if target.confidence is not None:
            return certified_rule(self, run, target)
        if target.guarantee == "expected":
            return risk_controlled_rule(self, run, target)
        rule = self
        if self.learned:
            fit, rest = fit_split(len(run), run.groups)
            rule, run = self.fitted(run[fit]), run[rest]
        if target.given:
            curve = run.curve(rule)
            # Not where a score must exceed less than the least threshold: an entropy score is 0 for equal outputs, and
            # no threshold is below 0. Never stopping early is always possible.
            possible = curve.threshold >= rule.least
            possible[-1] = True
            reachable = curve.only(possible)
            score = float(reachable.threshold[target.best_point(reachable, rule.kind)])
            rule = rule.at(min(max(score, rule.least), rule.never))
        else:
            rule.refuse_never(run)
        return run.judged(rule)

    def refuse_never(self, run: CachedRun) -> None:
        """Raises CalibrationError for a threshold that no sample of a run can reach; most rules have none."""
        return

    def start(self, inputs: Tensor) -> State:
        return ()

    def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        score, state = self.score(progress, logits_sum, state)
        return score > self.limit(progress), state

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(progress.t, logits_sum)


@dataclass(frozen=True, kw_only=True)
class ThresholdExit(ScoredExit):
    """A scored rule whose threshold is a field: one number, or one per exit point."""

    least: ClassVar[float] = -torch.finfo(torch.float32).max
    never: ClassVar[float] = torch.finfo(torch.float32).max
    threshold: Threshold = 1.0  # in the score's unit

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", numbers("threshold", self.threshold))

    def limit(self, progress: Progress) -> Tensor | float:
        return at_point(self.threshold, progress) if isinstance(self.threshold, tuple) else self.threshold

    def at(self, threshold: Threshold) -> Self:
        return replace(self, threshold=threshold)


@dataclass(frozen=True, kw_only=True)
class ProbabilityExit(ThresholdExit):
    """A threshold rule whose score is a probability, or as good as one."""

    least: ClassVar[float] = torch.finfo(torch.float32).tiny
    never: ClassVar[float] = 1.0
    threshold: Threshold = 0.9  # in (0, 1]; stops when strictly above, so 1 never stops early

    def __post_init__(self) -> None:
        super().__post_init__()
        for value in self.threshold if isinstance(self.threshold, tuple) else (self.threshold,):
            if not 0.0 < value <= 1.0:
                raise ValueError(f"threshold is a probability in (0, 1], got {value}: give one")
