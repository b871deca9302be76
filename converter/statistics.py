"""How a site's activations are distributed, on the images that a range is chosen on and on others.

Maxima are exact, and counts are integers, so that neither the order of what is counted nor the processes that share it
matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from seenn.distributed import world

BINS = 2048
SMALLEST = 1e-30  # of activations that thresholds are chosen for: squares of smaller ones vanish in float32
LARGEST = 1e36  # likewise: sums of larger ones overflow
_BLOCK = 1 << 17  # values: half a MiB of floats, so that a neuron's tensors stay in a core's cache over all steps
_FINENESS = 1.004, 1.03  # between the ranges whose error is computed, for few levels and for many
_FEW = 64  # levels
_NARROWEST = 1 / 19  # of the maximum, the first of these ranges


def cache_blocks(values: Tensor) -> Iterator[slice]:
    """Slices of the rows, to run a neuron through all timesteps on one before the next (twice as fast here).

    Neurons act on each value by itself, so the results are those of all rows at once, bit for bit.
    """
    size = max(1, _BLOCK // max(1, math.prod(values.shape[1:])))
    return (slice(start, start + size) for start in range(0, len(values), size))


@dataclass(frozen=True, eq=False)
class SiteStatistics:
    """How a site's activations are distributed.

    Attributes:
        maximum: largest activation per channel ``[C]`` (all channels as one: ``[1]``).
        counts: ``[C, BINS + 1]`` int64; bin 0 holds the zeros, bin k what is in ((k − 1)/BINS, k/BINS] · maximum.
            Nothing where a maximum is not finite.
        halves: the same of the first and of the second half of the images; a range that was chosen on one is judged
            on the other. None of such a half.
    """

    maximum: Tensor
    counts: Tensor
    halves: tuple[SiteStatistics, SiteStatistics] | None = None
    _errors: dict[int, Tensor] = field(default_factory=dict, repr=False)  # by steps, for whoever has these counts

    @staticmethod
    def of(values: Tensor, maximum: Tensor | None = None) -> SiteStatistics:
        """Of activations ``[n, C]``, all of them or a sample; of all processes, where they share them.

        ``maximum``: of all of them, ``[C]``, where ``values`` is a sample.
        """
        here = world()
        maximum = values.amax(0) if maximum is None else maximum
        maximum = here.max_(maximum.clamp_min(0.0).cpu())
        channels = len(maximum)
        counts = torch.zeros(channels * (BINS + 1), dtype=torch.int64)
        first, one = torch.arange(channels) * (BINS + 1), torch.ones(1, dtype=torch.int64)
        scale = BINS / maximum.clamp_min(SMALLEST)
        for rows in cache_blocks(values) if bool(maximum.isfinite().all()) else ():
            index = (values[rows].cpu() * scale).ceil_().clamp_(0, BINS).long() + first
            counts.scatter_add_(0, index.flatten(), one.expand(index.numel()))
        return SiteStatistics(maximum, here.sum_(counts).view(channels, BINS + 1))

    def error(self, ranges: Tensor, steps: int) -> Tensor:
        """Mean squared error per channel of rounding to ``steps`` levels up to each of ``ranges`` and clipping there.

        ``E‖x − clip(⌊x·s/r + ½⌋, 0, s)·r/s‖²``, with the values of a bin spread evenly over it.

        Args:
            ranges: ``[C, n]``, or ``[C]``.
            steps: s = T·Γ.

        Returns:
            float64, as ``ranges``; to the nearest of a grid of ranges. A value that many positions share, as where the
            background is of one color, is a level of some ranges and half a step off in others: of few levels, whose
            steps are wide, the grid is fine, and 32 of them are met to a sixteenth of a step.
        """
        if steps not in self._errors:
            counts = self.counts.double()
            shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
            self._errors[steps] = shares @ _bin_errors(steps)
        table, unit = self._errors[steps], self.maximum.double().clamp_min(SMALLEST)
        ratio = ranges.double().view(len(unit), -1) / unit[:, None]
        first, fineness = _grid(steps)
        index = (ratio.clamp_min(SMALLEST).log() / fineness).round().long() - first
        found = table.gather(1, index.clamp(0, table.shape[1] - 1)) * unit[:, None].square()
        return found.view(ranges.shape)

    def clipped(self, ranges: Tensor) -> Tensor:
        """What ``ranges`` ``[C]`` cut off: numbers of values clipped and of all, lost and whole energy, ``[4]``."""
        edge = torch.arange(BINS + 1, dtype=torch.float64) / BINS * self.maximum.double()[:, None]
        counts, limit = self.counts.double(), ranges.double()[:, None]
        middle = edge - self.maximum.double()[:, None] / (2 * BINS)
        middle[:, 0] = 0
        over = edge > limit * (1 + 1e-6)  # a range that is the maximum, in float32, clips nothing
        lost = (middle.square() - limit.square()).clamp_min(0) * over
        sums = ((counts * over).sum(), counts.sum(), (counts * lost).sum(), (counts * middle.square()).sum())
        return torch.stack(sums)


def _grid(steps: int) -> tuple[int, float]:
    """Number of the narrowest range, and the logarithm of the ratio between one and the next."""
    fineness = math.log(_FINENESS[steps > _FEW])
    return round(math.log(_NARROWEST) / fineness), fineness


@lru_cache(maxsize=4)
def _bin_errors(steps: int) -> Tensor:
    """Mean squared error of the values of each bin, in units of the maximum, for each range of the grid: float64
    ``[BINS + 1, ranges]``.
    """
    first, fineness = _grid(steps)
    widest = math.ceil(math.log(4 * steps) / fineness)  # from there on everything rounds to zero
    ranges = (fineness * torch.arange(first, widest + 1, dtype=torch.float64)).exp()
    step = ranges / steps
    low = torch.arange(BINS, dtype=torch.float64)[:, None] / BINS
    high = low + 1 / BINS
    rounding = step**3 * (_sawtooth(high.minimum(ranges) / step) - _sawtooth(low.minimum(ranges) / step))
    clipping = ((high - ranges).clamp_min(0) ** 3 - (low - ranges).clamp_min(0) ** 3) / 3
    zeros = torch.zeros(1, len(ranges), dtype=torch.float64)
    return torch.cat([zeros, (rounding + clipping) * BINS])


def _sawtooth(u: Tensor) -> Tensor:
    """∫₀ᵘ (v − ⌊v + ½⌋)² dv."""
    nearest = (u + 0.5).floor()
    return nearest / 12 + (u - nearest) ** 3 / 3


def relative_error(wrong: float, power: float) -> float:
    """‖error‖ / ‖signal‖ from their squares; 1 where there is an error and no signal at all."""
    return (wrong / power) ** 0.5 if power > 0 else float(wrong > 0)


def squared_norm(values: Tensor) -> Tensor:
    """The sum of squares in float64, where those of small values do not vanish."""
    norm: Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
    return norm.square()
