"""How far samples have come: what a stop rule is asked about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Progress:
    """Where each of B samples stands, and what it has cost to come there.

    Attributes:
        t: timesteps that have answered, int64 ``[B]``, from 1.
        segment: the part of the step that has answered, int64 ``[B]``, from 1; without exits in depth a step has one.
        cost: work so far in full timesteps, float64 ``[B]``: steps before the first that answers included.
    """

    t: Tensor
    segment: Tensor
    cost: Tensor

    @classmethod
    def at(cls, t: int, samples: int, *, initial_steps: int = 0) -> Progress:
        """So many samples that all stand after ``t`` whole steps."""
        steps = torch.full((samples,), t)
        return cls(steps, torch.ones_like(steps), torch.full((samples,), float(initial_steps + t), dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, samples: Tensor) -> Progress:
        """Some of the samples, by index or mask."""
        return Progress(self.t[samples], self.segment[samples], self.cost[samples])

    def to(self, device: torch.device | str) -> Progress:
        """The same on another device."""
        return Progress(self.t.to(device), self.segment.to(device), self.cost.to(device))
