"""What a session answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from seenn.distributed import World


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers for N samples, each at its own exit.

    Attributes:
        labels: argmax of ``logits_sum``, int64 ``[N]``.
        exit_timestep: timesteps that answered, int64 ``[N]``, 1-based.
        exit_segment: the exit in the last of them, int64 ``[N]``, 1-based; 1 in a network without heads.
        cost: full timesteps spent, initial steps included, float64 ``[N]``.
        confidence: the policy's confidence at the exit, ``[N]``.
        logits_sum: outputs summed up to the exit, ``[N, K]``.
    """

    labels: Tensor
    exit_timestep: Tensor
    exit_segment: Tensor
    cost: Tensor
    confidence: Tensor
    logits_sum: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def outputs(self) -> Tensor:
        """The mean of a step ``[N, K]``: what a network of quantities gives, which has no labels; see ``SNN.task``."""
        return self.logits_sum / self.exit_timestep[:, None]

    def points(self, segments: int) -> Tensor:
        """The exit points, in order of cost, in a network of so many exits in a step: int64 ``[N]``, from 1."""
        return (self.exit_timestep - 1) * segments + self.exit_segment

    def gathered(self, here: World) -> Predictions:
        """Those of every process, in the order of the ranks."""
        return Predictions(**{field.name: here.cat(getattr(self, field.name)) for field in fields(self)})

    @staticmethod
    def concatenate(parts: Sequence[Predictions]) -> Predictions:
        """One after the other."""
        names = [field.name for field in fields(Predictions)]
        return Predictions(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer for one sample.

    Attributes:
        index: of the sample in the stream, from 0.
        label: argmax of ``logits_sum``.
        exit_timestep: timesteps that answered.
        exit_segment: the exit in the last of them; 1 in a network without heads.
        cost: full timesteps spent, initial steps included.
        confidence: the policy's confidence at the exit.
        logits_sum: outputs summed up to the exit, ``[K]``.
        stopped_by: ``policy``, ``timesteps`` (the last one was reached) or ``deadline``.
    """

    index: int
    label: int
    exit_timestep: int
    exit_segment: int
    cost: float
    confidence: float
    logits_sum: Tensor
    stopped_by: Literal["policy", "timesteps", "deadline"]

    @property
    def outputs(self) -> Tensor:
        """The mean of a step ``[K]``."""
        return self.logits_sum / self.exit_timestep
