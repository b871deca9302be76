"""How far samples have come: what a stop rule is asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Progress:
    """Where each of B samples stands, and what it has cost to come there.

    Attributes:
        t: timesteps that have answered, int64 ``[B]``, from 1; the last of them up to ``segment``.
        segment: the part of the step that has answered, int64 ``[B]``, from 1; without exits in depth a step has one.
        cost: work so far in full timesteps, float64 ``[B]``: steps before the first that answers included.
        segments: parts of a step.
    """

    t: Tensor
    segment: Tensor
    cost: Tensor
    segments: int = 1

    @property
    def point(self) -> Tensor:
        """The exit points so far, in order of cost: int64 ``[B]``, from 1. Without exits in depth that is ``t``."""
        return self.t if self.segments == 1 else (self.t - 1) * self.segments + self.segment

    @property
    def whole(self) -> Tensor:
        """Whether the step is complete, bool ``[B]``."""
        return self.segment == self.segments

    @classmethod
    def at(cls, point: int, samples: int, cost: float | None = None, segments: int = 1) -> Progress:
        """So many samples that all stand at an exit point, at that cost; None: one a point."""
        points = torch.full((samples,), point)
        spent = float(point) if cost is None else cost
        t, segment = (points - 1) // segments + 1, (points - 1) % segments + 1
        return cls(t, segment, torch.full((samples,), spent, dtype=torch.float64), segments)

    @classmethod
    def after(cls, t: Tensor, initial_steps: int = 0) -> Progress:
        """Samples after ``t`` whole steps each, int64 ``[B]``, in a network without heads."""
        return cls(t, torch.ones_like(t), t.to(torch.float64) + initial_steps)

    @classmethod
    def points(cls, cost: Tensor, samples: int, segments: int = 1) -> Iterator[Progress]:
        """So many samples at each exit point, in order of ``cost`` ``[P]``."""
        return (cls.at(point, samples, spent, segments) for point, spent in enumerate(cost.tolist(), start=1))

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, samples: Tensor) -> Progress:
        """Some of the samples, by index or mask."""
        return Progress(self.t[samples], self.segment[samples], self.cost[samples], self.segments)


def cost_of_steps(timesteps: int, initial_steps: int = 0, exit_costs: Sequence[float] = (1.0,)) -> Tensor:
    """What stopping at each exit point costs in full timesteps, float64 ``[P]`` in rising order.

    ``initial_steps + t - 1 + c`` for t = 1 … T and the share c of a step up to each exit in it.
    """
    before = torch.arange(timesteps, dtype=torch.float64) + initial_steps
    return (before[:, None] + torch.tensor(exit_costs, dtype=torch.float64)).flatten()
