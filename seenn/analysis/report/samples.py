"""The images that were easiest and hardest for a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SampleExit:
    """How one image of a split was answered."""

    index: int  # in the split
    label: int
    prediction: int
    exit_timestep: int
    confidence: float  # at the exit

    @property
    def correct(self) -> bool:
        """Whether the prediction is the label."""
        return self.prediction == self.label


def easiest_and_hardest(
    labels: Tensor, predictions: Tensor, exit_timestep: Tensor, confidence: Tensor, count: int = 8
) -> tuple[tuple[SampleExit, ...], tuple[SampleExit, ...]]:
    """The ``count`` images that exited first and surest, and those that exited last and least sure.

    Order: exit timestep, then confidence (high first), then index; the hardest come hardest first. No image
    is in both.

    Args:
        labels, predictions, exit_timestep: integers ``[N]``.
        confidence: of the prediction at the exit, ``[N]``.
    """
    surest_first = torch.argsort(confidence, descending=True, stable=True)
    order = surest_first[torch.argsort(exit_timestep[surest_first], stable=True)].tolist()
    count = min(count, len(order) // 2)

    def sample(index: int) -> SampleExit:
        return SampleExit(
            index=index,
            label=int(labels[index]),
            prediction=int(predictions[index]),
            exit_timestep=int(exit_timestep[index]),
            confidence=float(confidence[index]),
        )

    return tuple(map(sample, order[:count])), tuple(map(sample, order[::-1][:count]))
