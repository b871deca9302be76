"""Interpolation to another size: linear over space, so that it acts on every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Flag, PositivePair, choice
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value

Mode = Literal["nearest", "nearest-exact", "bilinear", "bicubic"]


@register("resize")
class Resize(StatelessOp):
    """``[B, C, H, W] -> [B, C, *size]``, as ``torch.nn.functional.interpolate`` does it."""

    affine = True
    size: PositivePair
    mode: Annotated[Mode, partial(choice, of=get_args(Mode))] = "nearest"
    align_corners: Flag = False

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._resized(inputs[0], self.size)

    def route(self, *events: Tensor) -> Tensor:
        (x,) = events
        rows, columns = (self._reached(size, out, x) for size, out in zip(x.shape[2:], self.size, strict=True))
        return rows @ x @ columns.T

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        if self.mode in ("nearest", "nearest-exact"):
            return lowering.move(self, inputs[0])
        return lowering.function(self, inputs, f"{self.mode} interpolation multiplies by fractions")

    def _resized(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        corners = self.align_corners if self.mode in ("bilinear", "bicubic") else None
        return F.interpolate(x, size, mode=self.mode, align_corners=corners)

    def _reached(self, before: int, after: int, like: Tensor) -> Tensor:
        """Which positions of an axis enter which: ``[after, before]`` of zeros and ones."""
        columns = torch.eye(before, dtype=like.dtype, device=like.device).view(before, 1, before, 1)
        return (self._resized(columns, (after, 1)).view(before, after).T != 0).to(like.dtype)
