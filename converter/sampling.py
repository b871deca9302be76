"""Which values of a site are looked at, and how many at a time: never with an effect of the images' order."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

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
