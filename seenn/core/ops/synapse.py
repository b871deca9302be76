"""Weighted connections: convolution and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Pair, Positive, PositivePair, parameter
from seenn.core.ops.base import Geometry, Synapse, register


@register("conv2d")
class Conv2d(Synapse):
    """2-D convolution, ``[B, C, H, W] -> [B, O, H', W']``; grouped and depthwise included."""

    weight: Annotated[Tensor, partial(parameter, dims=(4,))]
    stride: PositivePair = (1, 1)
    padding: Pair = (0, 0)
    dilation: PositivePair = (1, 1)
    groups: Positive = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weight) % self.groups:
            raise ValueError(f"{len(self.weight)} output channels do not divide into {self.groups} groups")

    def response(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    @property
    def geometry(self) -> Geometry:
        return Geometry(
            channels=0, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return 1


@register("linear")
class Linear(Synapse):
    """``y = x Wᵀ + b`` over the last axis, ``[..., C] -> [..., O]``."""

    weight: Annotated[Tensor, partial(parameter, dims=(2,))]

    def response(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def shaped(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        outputs, features = self.weight.shape
        if not x.dim() or x.shape[-1] != features:
            raise RuntimeError(f"a linear layer of {features} features got a value {list(x.shape)}")
        return x.new_empty((*x.shape[:-1], outputs))

    @property
    def geometry(self) -> Geometry:
        return Geometry(channels=-1)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return len(after)
