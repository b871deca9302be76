"""Ops that take values, in any order and as often as wanted, along the axes of each image."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.arguments import Axis, integers
from seenn.core.ops.base import Rearrangement, register


@register("take")
class Take(Rearrangement):
    """``x[..., index, ...]`` along ``axis``: strided slices, rolls, flips, repetitions and selections."""

    axis: Axis
    index: Annotated[tuple[int, ...], integers]

    def __post_init__(self) -> None:
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

    shape: Annotated[tuple[int, ...], partial(integers, low=1)]

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].expand(inputs[0].shape[0], *self.shape)
