"""Ops that move values without changing them. None of them touches the batch axis."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import flag, integer, integers
from seenn.core.ops.base import StatelessOp, register


@register("flatten")
class Flatten(StatelessOp):
    """Merges the axes ``start`` to ``end`` (inclusive; -1 = last)."""

    affine = True
    attributes = ("start", "end")

    def __init__(self, *, start: int = 1, end: int = -1) -> None:
        super().__init__()
        self.start = integer("start", start, low=1, high=8)
        self.end = integer("end", end, low=-1, high=8)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flatten(self.start, self.end)


@register("reshape")
class Reshape(StatelessOp):
    """``[B, ...] -> [B, *shape]``."""

    affine = True
    attributes = ("shape",)

    def __init__(self, *, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = integers("shape", shape, len(shape), low=1, high=1 << 31)
        if math.prod(self.shape) > 1 << 40:
            raise ValueError(f"shape {self.shape} is larger than any tensor")

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)


@register("permute")
class Permute(StatelessOp):
    """Axes in another order; the batch stays first."""

    affine = True
    attributes = ("axes",)

    def __init__(self, *, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), high=8)
        if sorted(self.axes) != list(range(len(axes))) or self.axes[:1] != (0,):
            raise ValueError(f"axes must be a permutation that keeps axis 0 first, got {list(axes)}")

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(self.axes)


@register("slice")
class Slice(StatelessOp):
    """``x[start:stop]`` along ``axis``: one part of a split or chunk."""

    affine = True
    attributes = ("axis", "start", "stop")

    def __init__(self, *, axis: int, start: int, stop: int) -> None:
        super().__init__()
        self.axis = integer("axis", axis, low=1, high=8)
        self.start = integer("start", start)
        self.stop = integer("stop", stop, low=self.start + 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].narrow(self.axis, self.start, self.stop - self.start)


@register("pad")
class Pad(StatelessOp):
    """Zeros around the last axes, ``amounts`` in torch's order (last axis first, before and after)."""

    affine = True
    attributes = ("amounts",)

    def __init__(self, *, amounts: tuple[int, ...]) -> None:
        super().__init__()
        if len(amounts) % 2:
            raise ValueError(f"amounts come in pairs, got {list(amounts)}")
        self.amounts = integers("amounts", amounts, len(amounts), low=-(1 << 16), high=1 << 16)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.pad(inputs[0], self.amounts)


@register("mean")
class Mean(StatelessOp):
    """Average over ``axes``."""

    affine = True
    attributes = ("axes", "keepdim")

    def __init__(self, *, axes: tuple[int, ...], keepdim: bool = False) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), low=1, high=8)
        self.keepdim = flag("keepdim", keepdim)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].mean(self.axes, keepdim=self.keepdim)

    def route(self, *events: Tensor) -> Tensor:
        return events[0].sum(self.axes, keepdim=self.keepdim)
