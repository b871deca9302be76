"""What is looked at of a site's values, and how it is distributed: never with an effect of the images' order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.distributed import world

BINS = 2048
SMALLEST = 1e-30  # of activations that thresholds are chosen for: squares of smaller ones vanish in float32
_SAMPLES_PER_CHANNEL = 1 << 16
_BLOCK = 1 << 17  # values: half a MiB of floats, so that a neuron's tensors stay in a core's cache over all steps


def position_stride(images: int, positions: int, most: int) -> int:
    """Take every so-manieth position of each image to keep roughly ``most`` values a channel; 1 takes all.

    It has no divisor in common with the number of positions: a stride that divides the width would see some
    columns only, perhaps the border alone.
    """
    stride = max(1, images * positions // most)
    while math.gcd(stride, positions) > 1:
        stride -= 1
    return stride


def by_position(values: Tensor) -> Tensor:
    """``[B, C, ...]`` as ``[B, C, positions]``; a linear layer's ``[B, C]`` has one position."""
    return values.unsqueeze(-1).flatten(2)


def cache_blocks(values: Tensor) -> Iterator[slice]:
    """Slices of the rows, to run a neuron through all timesteps on one before the next (twice as fast here).

    Neurons act on each value by itself, so the results are those of all rows at once, bit for bit.
    """
    size = max(1, _BLOCK // max(1, values[0].numel()))
    return (slice(start, start + size) for start in range(0, len(values), size))


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
        scale = (BINS / maximum.clamp_min(SMALLEST)).view(-1, 1)
        for row in rows:
            sample = row[:, :, ::stride].transpose(0, 1).flatten(1).cpu()
            if not per_channel:
                sample = sample.reshape(1, -1)
            index = (sample * scale.cpu()).round().long().clamp_(0, BINS - 1) + offset
            counts += torch.bincount(index.flatten(), minlength=counts.numel()).view_as(counts)
        return SiteStatistics(maximum.cpu(), here.sum_(counts))
