"""How far samples have come: what a stop rule is asked about."""

from __future__ import annotations

from collections.abc import Iterator
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
    def at(cls, t: int, samples: int, cost: float | None = None) -> Progress:
        """So many samples that all stand after ``t`` whole steps, at that cost; None: one a step."""
        steps = torch.full((samples,), t)
        spent = float(t) if cost is None else cost
        return cls(steps, torch.ones_like(steps), torch.full((samples,), spent, dtype=torch.float64))

    @classmethod
    def points(cls, cost: Tensor, samples: int) -> Iterator[Progress]:
        """So many samples at each exit point, in order of ``cost`` ``[T]``: after t = 1, 2, … whole steps."""
        return (cls.at(t, samples, spent) for t, spent in enumerate(cost.tolist(), start=1))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, samples: Tensor) -> Progress:
        """Some of the samples, by index or mask."""
        return Progress(self.t[samples], self.segment[samples], self.cost[samples])


def cost_of_steps(timesteps: int, initial_steps: int = 0) -> Tensor:
    """What stopping after t = 1 … T costs in full timesteps, ``initial_steps + t``: float64 ``[T]``."""
    return torch.arange(1, timesteps + 1, dtype=torch.float64) + initial_steps
