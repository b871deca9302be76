"""Where the images of a batch are in a traced value.

Models move the batch (``qkv.permute(2, 0, 3, 1, 4)``) and fold values of each image into it (windows of Swin,
heads of attention). A node of a network always has one image a row, so a traced shape is read as that of a
value ``[B, ...]``: models are traced on shapes with two numbers of images, and what follows them is the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import PROBE_BATCHES


@dataclass(frozen=True)
class Layout:
    """A traced value has its images along ``axis``, with ``fold`` entries in a row for each of them.

    The network's value is ``[B, axes before, (fold), axes after]``, without the axis of ``fold`` where it is 1.
    """

    axis: int
    fold: int

    @staticmethod
    def of(first: Sequence[int], second: Sequence[int]) -> Layout | None:
        """The layout of a shape at both ``PROBE_BATCHES``; None where no axis follows the batch, or several do."""
        if len(first) != len(second):
            return None
        found = [axis for axis, sizes in enumerate(zip(first, second, strict=True)) if sizes[0] != sizes[1]]
        if len(found) != 1:
            return None
        fold, rest = divmod(first[found[0]], PROBE_BATCHES[0])
        return None if rest or second[found[0]] != fold * PROBE_BATCHES[1] else Layout(found[0], fold)

    @property
    def plain(self) -> bool:
        """Whether the traced value is ``[B, ...]`` as it is."""
        return self == Layout(0, 1)

    def image(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one image's part of a traced value."""
        fold = (self.fold,) if self.fold > 1 else ()
        return (*shape[: self.axis], *fold, *shape[self.axis + 1 :])

    def place(self, axis: int) -> int:
        """The network's axis (the batch is 0) of a traced axis, which is not the batch's."""
        return axis + 1 if axis < self.axis else axis + (self.fold > 1)

    def same_order(self, shape: Sequence[int], other: Layout, other_shape: Sequence[int]) -> bool:
        """Whether a reshape between the two keeps every image's values together."""
        return math.prod(shape[: self.axis]) == math.prod(other_shape[: other.axis])

    def constant(self, value: Tensor, rank: int) -> Tensor | None:
        """A constant that meets a traced value of ``rank`` axes, as it meets the network's; None: it cannot."""
        if value.dim() > rank:
            return None
        value = value.reshape((1,) * (rank - value.dim()) + tuple(value.shape))
        if value.shape[self.axis] != 1:
            return None
        value = value.squeeze(self.axis) if self.fold == 1 else value
        while value.dim() and value.shape[0] == 1:
            value = value.squeeze(0)
        return value


def one_image(first: Any, second: Any) -> Any:
    """Sizes found at both ``PROBE_BATCHES``, as they are for one image; what is no size stays as at the first."""
    if isinstance(first, torch.Size | tuple | list) and isinstance(second, tuple | list) and len(first) == len(second):
        found = map(one_image, first, second)
        return list(found) if isinstance(first, list) else tuple(found)
    if type(first) is int and type(second) is int:
        each = (second - first) // (PROBE_BATCHES[1] - PROBE_BATCHES[0])
        return first - each * (PROBE_BATCHES[0] - 1)
    return first
