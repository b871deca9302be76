"""Ops that take values, in any order and as often as wanted, along the axes of each image."""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.core.ops.arguments import integer, integers
from seenn.core.ops.base import Rearrangement, register


@register("take")
class Take(Rearrangement):
    """``x[..., index, ...]`` along ``axis``: strided slices, rolls, flips, repetitions and selections."""

    attributes = ("axis", "index")

    def __init__(self, *, axis: int, index: tuple[int, ...]) -> None:
        super().__init__()
        self.axis = integer("axis", axis, low=1, high=8)
        self.index = integers("index", index, len(index))
        if not self.index:
            raise ValueError("index is empty")

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if max(self.index) >= x.shape[self.axis]:
            raise ValueError(f"index {max(self.index)} along an axis of {x.shape[self.axis]}")
        return x.index_select(self.axis, torch.tensor(self.index, device=x.device))


@register("expand")
class Expand(Rearrangement):
    """``[B, ...] -> [B, *shape]``, repeating along axes of size 1."""

    attributes = ("shape",)

    def __init__(self, *, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = integers("shape", shape, len(shape), low=1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].expand(inputs[0].shape[0], *self.shape)
