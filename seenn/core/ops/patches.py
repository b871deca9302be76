"""Sliding windows of an image as columns, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Pair, PositivePair
from seenn.core.ops.base import Rearrangement, StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value


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

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.average(self, inputs[0], across_channels=True)
