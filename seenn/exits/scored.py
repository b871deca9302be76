"""Rules that stop once a score exceeds a threshold: what calibration, curves and guarantees build on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.calibration.result import ExitCalibration
from seenn.exits.calibration.search import search_threshold
from seenn.exits.calibration.target import ExitTarget
from seenn.exits.deprecated import accept_timesteps
from seenn.exits.guarantees.learn_then_test import certified_rule
from seenn.exits.progress import Progress
from seenn.exits.scores import at_timestep, numbers, softmax_confidence

Threshold = float | tuple[float, ...]  # one for every t, or one for each of t = 1 … T-1


class ScoredExit(ABC):
    """Stop at the first t with ``score > limit(t)``: an exit policy that calibration can move."""

    kind: ClassVar[str]
    summary: ClassVar[str] = ""  # when it stops, in a line
    threshold_field: ClassVar[str] = "threshold"  # what a person sets as its threshold
    learned: ClassVar[tuple[str, ...]] = ()  # fields that ``fitted`` finds, beside the threshold

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        accept_timesteps(cls)

    @property
    def learns(self) -> bool:
        """Whether ``fitted`` has numbers to learn beside the threshold."""
        return bool(self.learned)

    @property
    def threshold_value(self) -> Threshold | None:
        """What a report shows as its threshold."""
        value: Threshold | None = getattr(self, self.threshold_field, None)
        return value

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

    def fitted(self, logits_sum: Tensor, labels: Tensor) -> Self:
        """The same rule with its own numbers fitted on ``[T, N, K]`` and ``[N]``; deterministic."""
        return self

    def calibrate(self, run: CachedRun, target: ExitTarget) -> ExitCalibration[Self]:
        """The rule at the threshold that meets ``target`` best on ``run``."""
        return search_threshold(self, run, target) if target.confidence is None else certified_rule(self, run, target)

    def start(self, inputs: Tensor) -> State:
        return ()

    def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        score, state = self.score(progress, logits_sum, state)
        return score > self.limit(progress), state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum)


@dataclass(frozen=True, kw_only=True)
class ThresholdExit(ScoredExit):
    """A scored rule whose threshold is a field: one number, or one per timestep."""

    least: ClassVar[float] = -torch.finfo(torch.float32).max
    never: ClassVar[float] = torch.finfo(torch.float32).max
    threshold: Threshold = 1.0  # in the score's unit

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", numbers("threshold", self.threshold))

    def limit(self, progress: Progress) -> Tensor | float:
        return at_timestep(self.threshold, progress.t) if isinstance(self.threshold, tuple) else self.threshold

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
                raise ValueError(f"threshold is a probability in (0, 1], got {value}")
