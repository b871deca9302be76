"""Which values of a site are looked at where all would be too many: the same ones whatever the images' order."""

from __future__ import annotations

import math

from torch import Tensor


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
