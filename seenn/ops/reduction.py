"""Reductions over axes of each image that are not linear: maxima and variances."""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.ops.arguments import flag, integer, integers
from seenn.ops.base import StatelessOp, register


@register("largest")
class Largest(StatelessOp):
    """The maximum over ``axes``."""

    island = True
    homogeneous = True
    attributes = ("axes", "keepdim")

    def __init__(self, *, axes: tuple[int, ...], keepdim: bool = False) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), low=1, high=8)
        self.keepdim = flag("keepdim", keepdim)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].amax(self.axes, keepdim=self.keepdim)


@register("variance")
class Variance(StatelessOp):
    """``Σ (x − mean)² / (n − correction)`` over the n values of ``axes``."""

    island = True
    attributes = ("axes", "correction", "keepdim")

    def __init__(self, *, axes: tuple[int, ...], correction: int = 1, keepdim: bool = False) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), low=1, high=8)
        self.correction = integer("correction", correction)
        self.keepdim = flag("keepdim", keepdim)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.var(inputs[0], self.axes, correction=self.correction, keepdim=self.keepdim)
