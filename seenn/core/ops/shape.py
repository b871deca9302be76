"""Ops that move values without changing them. None of them touches the batch axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Axes, Axis, Flag, Integer, integer, integers
from seenn.core.ops.base import Rearrangement, StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value


@register("flatten")
class Flatten(Rearrangement):
    """Merges the axes ``start`` to ``end`` (inclusive; -1 = last)."""

    start: Axis = 1
    end: Annotated[int, partial(integer, low=-1, high=8)] = -1

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flatten(self.start, self.end)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return _reshaped_axis(axis, before, after)


@register("reshape")
class Reshape(Rearrangement):
    """``[B, ...] -> [B, *shape]``."""

    shape: Annotated[tuple[int, ...], partial(integers, low=1, high=1 << 31)]

    def __post_init__(self) -> None:
        if math.prod(self.shape) > 1 << 40:
            raise ValueError(f"shape {self.shape} is larger than any tensor")

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return _reshaped_axis(axis, before, after)


@register("permute")
class Permute(Rearrangement):
    """Axes in another order; the batch stays first."""

    axes: Annotated[tuple[int, ...], partial(integers, high=8)]

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))) or self.axes[:1] != (0,):
            raise ValueError(f"axes must be a permutation that keeps axis 0 first, got {list(self.axes)}")

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(self.axes)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return self.axes.index(axis)


@register("slice")
class Slice(Rearrangement):
    """``x[start:stop]`` along ``axis``: one part of a split or chunk."""

    axis: Axis
    start: Integer
    stop: Integer

    def __post_init__(self) -> None:
        integer("stop", self.stop, low=self.start + 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].narrow(self.axis, self.start, self.stop - self.start)


@register("pad")
class Pad(Rearrangement):
    """Zeros around the last axes, ``amounts`` in torch's order (last axis first, before and after)."""

    amounts: Annotated[tuple[int, ...], partial(integers, low=-(1 << 16), high=1 << 16)]

    def __post_init__(self) -> None:
        if len(self.amounts) % 2:
            raise ValueError(f"amounts come in pairs, got {list(self.amounts)}")

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.pad(inputs[0], self.amounts)

    def write(self, out: Tensor, *inputs: Tensor) -> None:
        inside, x = out, inputs[0]
        for axis, before in enumerate(self.amounts[::2], 1):
            after, size = self.amounts[2 * axis - 1], inside.shape[-axis]
            inside.narrow(-axis, 0, max(before, 0)).zero_()
            inside.narrow(-axis, size - max(after, 0), max(after, 0)).zero_()
            inside = inside.narrow(-axis, max(before, 0), size - max(before, 0) - max(after, 0))
            x = x.narrow(-axis, max(-before, 0), inside.shape[-axis])
        inside.copy_(x)


@register("mean")
class Mean(StatelessOp):
    """Average over ``axes``."""

    affine = True
    axes: Axes
    keepdim: Flag = False

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].mean(self.axes, keepdim=self.keepdim)

    def route(self, *events: Tensor) -> Tensor:
        return events[0].sum(self.axes, keepdim=self.keepdim)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return reduced_axis(self.axes, self.keepdim, axis, after)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.average(self, inputs[0], across_channels=1 in self.axes)


def reduced_axis(axes: Sequence[int], keepdim: bool, axis: int, after: Sequence[int]) -> int:
    """``Op.channel_axis`` where ``axes`` are reduced."""
    if keepdim or axis in axes:
        return min(axis, len(after))
    return axis - sum(before < axis for before in axes)


def _reshaped_axis(axis: int, before: Sequence[int], after: Sequence[int]) -> int:
    """The axis of the same size with as much before it; else the one that it was merged into, or its outer part."""
    if not before:
        return 1
    outer = math.prod(before[: axis - 1])
    for found in range(1, len(after) + 1):
        if math.prod(after[: found - 1]) == outer and after[found - 1] == before[axis - 1]:
            return found
    inner = [found for found in range(1, len(after) + 1) if math.prod(after[: found - 1]) <= outer]
    return inner[-1] if inner else 1
