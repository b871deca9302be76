"""What an engine answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seenn.distributed import World


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Answers for N images, each at its own exit.

    Attributes:
        labels: argmax of ``logits_sum``, int64 ``[N]``.
        exit_timestep: timesteps run, int64 ``[N]``, 1-based.
        confidence: the policy's confidence at the exit, ``[N]``.
        logits_sum: outputs summed up to the exit, ``[N, K]``.
        logits_sum_per_step: the same after every step, ``[T, N, K]``, NaN after a sample's exit; None
            unless asked for.
    """

    labels: Tensor
    exit_timestep: Tensor
    confidence: Tensor
    logits_sum: Tensor
    logits_sum_per_step: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def cpu(self) -> Predictions:
        """The same on the CPU."""
        steps = self.logits_sum_per_step
        return Predictions(
            labels=self.labels.cpu(),
            exit_timestep=self.exit_timestep.cpu(),
            confidence=self.confidence.cpu(),
            logits_sum=self.logits_sum.cpu(),
            logits_sum_per_step=None if steps is None else steps.cpu(),
        )

    def gathered(self, here: World) -> Predictions:
        """Those of every process, in the order of the ranks."""
        steps = self.logits_sum_per_step
        return Predictions(
            labels=here.cat(self.labels),
            exit_timestep=here.cat(self.exit_timestep),
            confidence=here.cat(self.confidence),
            logits_sum=here.cat(self.logits_sum),
            logits_sum_per_step=None if steps is None else here.cat(steps.transpose(0, 1)).transpose(0, 1),
        )

    @staticmethod
    def concatenate(parts: Sequence[Predictions]) -> Predictions:
        """One after the other."""
        steps = [part.logits_sum_per_step for part in parts]
        return Predictions(
            labels=torch.cat([part.labels for part in parts]),
            exit_timestep=torch.cat([part.exit_timestep for part in parts]),
            confidence=torch.cat([part.confidence for part in parts]),
            logits_sum=torch.cat([part.logits_sum for part in parts]),
            logits_sum_per_step=torch.cat([s for s in steps if s is not None], dim=1) if steps[0] is not None else None,
        )


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer for one image.

    Attributes:
        index: of the image in the stream, from 0.
        label: argmax of ``logits_sum``.
        exit_timestep: timesteps run.
        confidence: the policy's confidence at the exit.
        logits_sum: outputs summed up to the exit, ``[K]``.
        stopped_by: ``policy``, ``timesteps`` (the last one was reached) or ``deadline``.
    """

    index: int
    label: int
    exit_timestep: int
    confidence: float
    logits_sum: Tensor
    stopped_by: Literal["policy", "timesteps", "deadline"]
