"""Rules that stop once a score exceeds a threshold: what calibration, curves and guarantees build on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import number
from seenn.errors import CalibrationError

Accumulation = Literal["sum", "mean"]
Threshold = float | tuple[float, ...]  # one for every t, or one for each of t = 1 … T-1


def accumulated(t: Tensor, logits_sum: Tensor, accumulation: Accumulation) -> Tensor:
    """``S_t`` or ``S_t / t``, ``[B, K]``. The sum sharpens with t even when the opinion does not change."""
    return logits_sum / t.to(logits_sum.dtype).unsqueeze(-1) if accumulation == "mean" else logits_sum


def softmax_confidence(
    t: Tensor, logits_sum: Tensor, *, temperature: float = 1.0, accumulation: Accumulation = "mean"
) -> Tensor:
    """Top softmax probability, ``[B]``: ``max softmax(S_t / α)``, or of ``S_t / (t·α)`` for the mean."""
    return accumulated(t, logits_sum / temperature, accumulation).softmax(-1).amax(-1)


def top_two_gap(scores: Tensor) -> Tensor:
    """Largest minus second largest, ``[B]`` from ``[B, K]``; infinite where there is only one class."""
    if scores.shape[-1] < 2:
        return torch.full_like(scores[..., 0], torch.inf)
    top = scores.topk(2, dim=-1).values
    return top[..., 0] - top[..., 1]


def normalized_entropy(log_probabilities: Tensor) -> Tensor:
    """``H(p) / log K`` in [0, 1], ``[B]`` from ``log p`` ``[B, K]``; 0 where there is only one class."""
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
    return entropy / math.log(max(log_probabilities.shape[-1], 2))


class ScoredExit(ABC):
    """Stop at the first t with ``score > limit(t)``: an exit policy that calibration can move."""

    kind: ClassVar[str]
    learns: ClassVar[bool] = False  # whether ``fitted`` has numbers to learn beside the threshold

    @property
    @abstractmethod
    def least(self) -> float:
        """The smallest threshold."""

    @property
    @abstractmethod
    def never(self) -> float:
        """The largest threshold, which no score exceeds: it never stops early."""

    @abstractmethod
    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        """How safe it is to stop, ``[B]``, and the new state; it does not depend on the threshold."""

    @abstractmethod
    def limit(self, t: Tensor) -> Tensor | float:
        """What the score must exceed after ``t`` steps: one number, or ``[B]``."""

    @abstractmethod
    def at(self, threshold: Threshold) -> Self:
        """The same rule with another threshold."""

    def fitted(self, logits_sum: Tensor, labels: Tensor) -> Self:
        """The same rule with its own numbers fitted on ``[T, N, K]`` and ``[N]``; deterministic."""
        return self

    def start(self, images: Tensor) -> State:
        return ()

    def stop(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        score, state = self.score(t, logits_sum, state)
        return score > self.limit(t), state

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

    def limit(self, t: Tensor) -> Tensor | float:
        return self.threshold if isinstance(self.threshold, float | int) else at_timestep(self.threshold, t)

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


def numbers(name: str, value: object) -> Threshold:
    """``value`` as a finite float, or as a tuple of at least one."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise ValueError(f"{name} is empty; expected one number, or one per timestep")
        return tuple(number(name, single) for single in value)
    return number(name, value)


def check_accumulation(value: object) -> None:
    """Refuses anything but 'sum' and 'mean'."""
    if value not in ("sum", "mean"):
        raise ValueError(f"accumulation must be 'sum' or 'mean', got {value!r}")


def at_timestep(values: tuple[float, ...], t: Tensor) -> Tensor:
    """``values[t - 1]`` for every sample, ``[B]``; float64, so that a threshold is exactly what was chosen.

    Raises:
        CalibrationError: the policy was calibrated for fewer timesteps than are run.
    """
    if t.numel() and int(t.max()) > len(values):
        raise CalibrationError(
            f"the exit policy has numbers for {len(values)} timesteps, but is asked at t = {int(t.max())}: "
            "run as many timesteps as it was calibrated for, or calibrate it again"
        )
    exact = torch.float32 if t.device.type == "mps" else torch.float64  # Apple's GPUs know no other
    return torch.tensor(values, dtype=exact, device=t.device)[t - 1]


def exit_scores(policy: ScoredExit, logits_sum: Tensor, state: State | None = None) -> Tensor:
    """The policy's score for every sample after every step that decides, ``[T, N]`` from ``[T, N, K]``.

    The last step's decides nothing and repeats the one before: a rule may have numbers for T-1 steps only.
    ``state`` is what ``policy.start`` said about the samples' images; None: a rule that looks at logits only.
    """
    timesteps, n = logits_sum.shape[:2]
    state, scores = policy.start(logits_sum.new_zeros(n, 0)) if state is None else state, []
    for t in range(1, max(timesteps, 2)):
        score, state = policy.score(torch.full((n,), t), logits_sum[t - 1], state)
        scores.append(score)
    return torch.stack([*scores, scores[-1]][:timesteps])


def first_above(scores: Tensor, thresholds: Tensor) -> Tensor:
    """When each sample stops, counted from 0, int64 ``[N]``, from scores ``[T, N]`` and thresholds ``[T-1]``."""
    below = scores[:-1].double().numpy() <= thresholds.double().numpy()[:, None]
    return torch.from_numpy(np.logical_and.accumulate(below, axis=0).sum(0))
