"""Recipes: how the range of a site's activations is chosen, and with it the neuron's threshold.

A neuron that fires at most Γ spikes of size θ per step represents [0, Γ·θ], in T·Γ steps after T timesteps.
A recipe picks the range r per channel; the threshold is then θ = r / Γ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from converter.sampling import by_position, position_stride
from seenn.distributed import world
from seenn.errors import ConversionError

BINS = 2048
_SAMPLES_PER_CHANNEL = 1 << 16
_SMALLEST = 1e-30  # keeps the scale of a silent channel finite


@dataclass(frozen=True)
class SiteStatistics:
    """How a site's activations are distributed: exact maxima, and counts that do not depend on any order.

    Attributes:
        maximum: largest activation per channel ``[C]`` (all channels as one: ``[1]``).
        counts: ``[C, BINS]`` int64; bin k holds values around ``k/BINS · maximum``, bin 0 the zeros too.
    """

    maximum: Tensor
    counts: Tensor

    @staticmethod
    def of(batches: Sequence[Tensor], *, axis: int = 1, per_channel: bool = True) -> SiteStatistics:
        """From activations ``[B, ..., C, ...]`` in batches; of all processes, where they share the images.

        Every value enters the maximum. Where a channel has more than 65,536 values, the counts take every
        k-th position of each image; which ones depends on the number and size of the images only.
        """
        here = world()
        images = int(here.sum_(torch.tensor(sum(len(batch) for batch in batches))))
        rows = [by_position(batch.movedim(axis, 1)) for batch in batches]
        stride = position_stride(images, rows[0].shape[2], _SAMPLES_PER_CHANNEL)
        maximum = torch.stack([row.amax((0, 2)) for row in rows]).amax(0).clamp_min(0.0)
        if not per_channel:
            maximum = maximum.amax(0, keepdim=True)
        maximum = here.max_(maximum)
        counts = torch.zeros(len(maximum), BINS, dtype=torch.int64)
        offset = torch.arange(len(maximum)).view(-1, 1) * BINS
        scale = (BINS / maximum.clamp_min(_SMALLEST)).view(-1, 1)
        for row in rows:
            sample = row[:, :, ::stride].transpose(0, 1).flatten(1).cpu()
            if not per_channel:
                sample = sample.reshape(1, -1)
            index = (sample * scale.cpu()).round().long().clamp_(0, BINS - 1) + offset
            counts += torch.bincount(index.flatten(), minlength=counts.numel()).view_as(counts)
        return SiteStatistics(maximum.cpu(), here.sum_(counts))


class Recipe(Protocol):
    """Chooses a site's range from its statistics."""

    name: ClassVar[str]

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a range of its own."""

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        """The largest activation to represent, ``[C]`` or ``[1]``, given ``steps`` = T·Γ levels."""


@dataclass(frozen=True, kw_only=True)
class Max:
    """The largest activation seen (Rueckauer et al. 2017): never clips, needs many timesteps."""

    name: ClassVar[str] = "max"
    per_channel: bool = True

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        return statistics.maximum


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """The ``q``-th percentile of the activations (Rueckauer et al. 2017), to 1/2048 of the maximum."""

    name: ClassVar[str] = "percentile"
    q: float = 99.9  # in (0, 100]
    per_channel: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.q <= 100.0:
            raise ValueError(f"q is a percentage in (0, 100], got {self.q}")

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        share = statistics.counts.cumsum(1).double() / statistics.counts.sum(1, keepdim=True)
        index = (share < self.q / 100.0).sum(1).clamp(1, BINS - 1)
        return statistics.maximum * index / (BINS - 1)


@dataclass(frozen=True, kw_only=True)
class MMSE:
    """The range with the least squared rounding-and-clipping error (Li et al. 2021), over a grid.

    Minimises ``E‖x − clip(⌊x·s/r + ½⌋, 0, s)·r/s‖²`` with s = T·Γ levels over r = max·(1 − i/100),
    i = 0 … ``grid`` − 1.
    """

    name: ClassVar[str] = "mmse"
    per_channel: bool = True
    grid: int = 95  # candidates, 1 to 100

    def __post_init__(self) -> None:
        if not 1 <= self.grid <= 100:
            raise ValueError(f"grid must be 1 to 100 candidates, got {self.grid}")

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        value = torch.arange(BINS, dtype=torch.float64) / BINS
        counts = statistics.counts.double()
        candidates = 1.0 - torch.arange(self.grid, dtype=torch.float64) / 100.0
        step = (candidates / steps).view(-1, 1)
        rounded = torch.floor(value / step + 0.5).clamp(0, steps) * step
        error = counts @ (value - rounded).square().T  # [C, grid]
        return statistics.maximum * candidates[error.argmin(1)].to(statistics.maximum.dtype)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The thresholds that a QCFS network was trained with (Bu et al. 2022), copied as they are.

    A neuron with one spike a step that starts at θ/2 then computes, on constant input and with T = L, exactly
    what its activation did.
    """

    name: ClassVar[str] = "qcfs"
    per_channel: bool = True

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        raise ConversionError(
            "the qcfs recipe copies learned thresholds, and a ReLU has none: train the model with "
            "`seenn train-ann --activation qcfs`, or choose another recipe"
        )
