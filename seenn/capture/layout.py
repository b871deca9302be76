"""Where the images of a batch are in a traced value.

Models move the batch (``qkv.permute(2, 0, 3, 1, 4)``) and fold values of each image into it (windows of Swin,
heads of attention). A node of a network always has one image a row, so a traced shape is read as that of a
value ``[B, ...]``: models are traced with a batch of ``PROBE_BATCH`` images, a prime that marks its axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from seenn.core.graph import PROBE_BATCH


@dataclass(frozen=True)
class Layout:
    """A traced value has its images along ``axis``, with ``fold`` entries in a row for each of them.

    The network's value is ``[B, axes before, (fold), axes after]``, without the axis of ``fold`` where it is 1.
    """

    axis: int
    fold: int

    @staticmethod
    def of(shape: Sequence[int]) -> Layout | None:
        """The layout of a traced shape; None where there is no batch, or it is along several axes."""
        found = [axis for axis, size in enumerate(shape) if size and size % PROBE_BATCH == 0]
        return Layout(found[0], shape[found[0]] // PROBE_BATCH) if len(found) == 1 else None

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
