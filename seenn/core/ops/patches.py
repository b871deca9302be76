"""Sliding windows of an image as columns, and back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import integers
from seenn.core.ops.base import Rearrangement, StatelessOp, register
from seenn.core.ops.pooling import Pair


@register("unfold")
class Unfold(Rearrangement):
    """Every window's values as one column, ``[B, C, H, W] -> [B, C · kernel, windows]``; zeros outside the image."""

    attributes = ("kernel", "stride", "padding", "dilation")

    def __init__(self, *, kernel: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> None:
        super().__init__()
        self.kernel = integers("kernel", kernel, 2, low=1)
        self.stride = integers("stride", stride, 2, low=1)
        self.padding = integers("padding", padding, 2)
        self.dilation = integers("dilation", dilation, 2, low=1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.unfold(inputs[0], self.kernel, self.dilation, self.padding, self.stride)


@register("fold")
class Fold(StatelessOp):
    """Columns back to an image of ``size``, ``[B, C · kernel, windows] -> [B, C, *size]``; overlaps are added."""

    affine = True
    attributes = ("size", "kernel", "stride", "padding", "dilation")

    def __init__(self, *, size: Pair, kernel: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> None:
        super().__init__()
        self.size = integers("size", size, 2, low=1)
        self.kernel = integers("kernel", kernel, 2, low=1)
        self.stride = integers("stride", stride, 2, low=1)
        self.padding = integers("padding", padding, 2)
        self.dilation = integers("dilation", dilation, 2, low=1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.fold(inputs[0], self.size, self.kernel, self.dilation, self.padding, self.stride)
