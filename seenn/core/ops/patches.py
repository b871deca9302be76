"""Sliding windows of an image as columns, and back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Pair, PositivePair
from seenn.core.ops.base import Rearrangement, StatelessOp, register


@register("unfold")
class Unfold(Rearrangement):
    """Every window's values as one column, ``[B, C, H, W] -> [B, C · kernel, windows]``; zeros outside the image."""

    kernel: PositivePair
    stride: PositivePair = (1, 1)
    padding: Pair = (0, 0)
    dilation: PositivePair = (1, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.unfold(inputs[0], self.kernel, self.dilation, self.padding, self.stride)


@register("fold")
class Fold(StatelessOp):
    """Columns back to an image of ``size``, ``[B, C · kernel, windows] -> [B, C, *size]``; overlaps are added."""

    affine = True
    size: PositivePair
    kernel: PositivePair
    stride: PositivePair = (1, 1)
    padding: Pair = (0, 0)
    dilation: PositivePair = (1, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.fold(inputs[0], self.size, self.kernel, self.dilation, self.padding, self.stride)
