"""Weighted connections: convolution and linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import integer, integers, optional_vector, parameter
from seenn.core.ops.base import Geometry, Synapse, register


@register("conv2d")
class Conv2d(Synapse):
    """2-D convolution, ``[B, C, H, W] -> [B, O, H', W']``; grouped and depthwise included."""

    attributes = ("stride", "padding", "dilation", "groups")
    tensor_names = ("weight", "bias")

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.weight = parameter("weight", weight, dims=4)
        self.bias = optional_vector("bias", bias, weight.shape[0])
        self.stride = integers("stride", stride, 2, low=1)
        self.padding = integers("padding", padding, 2)
        self.dilation = integers("dilation", dilation, 2, low=1)
        self.groups = integer("groups", groups, low=1)
        if weight.shape[0] % self.groups:
            raise ValueError(f"{weight.shape[0]} output channels do not divide into {self.groups} groups")

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

    tensor_names = ("weight", "bias")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = parameter("weight", weight, dims=2)
        self.bias = optional_vector("bias", bias, weight.shape[0])

    def response(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @property
    def geometry(self) -> Geometry:
        return Geometry(channels=-1)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return len(after)
