"""Sums, constant factors and normalisation: affine maps that are not synapses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.ops.arguments import integer, number, optional_vector, parameter, per_channel
from seenn.ops.base import StatelessOp, register


@register("add")
class Add(StatelessOp):
    """Sum of inputs that broadcast: residual joins."""

    affine = True
    joins = True

    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


@register("concat")
class Concat(StatelessOp):
    """Inputs joined along ``axis``."""

    affine = True
    joins = True
    attributes = ("axis",)

    def __init__(self, *, axis: int = 1) -> None:
        super().__init__()
        self.axis = integer("axis", axis, low=1, high=8)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self.axis)


@register("scale")
class Scale(StatelessOp):
    """``y = factor · x`` with a constant factor."""

    affine = True
    attributes = ("factor",)

    def __init__(self, *, factor: float) -> None:
        super().__init__()
        self.factor = number("factor", factor)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.factor

    def route(self, *events: Tensor) -> Tensor:
        return events[0]


@register("shift")
class Shift(StatelessOp):
    """``y = x + amount`` with a constant amount, added in every step."""

    affine = True
    attributes = ("amount",)

    def __init__(self, *, amount: float) -> None:
        super().__init__()
        self.amount = number("amount", amount)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + self.amount

    def route(self, *events: Tensor) -> Tensor:
        return events[0]


@register("channel_affine")
class ChannelAffine(StatelessOp):
    """``y[:, c] = weight[c] · x[:, c] + bias[c]``: a normalisation that could not be folded further."""

    affine = True
    attributes = ("axis",)
    tensor_names = ("weight", "bias")

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, axis: int = 1) -> None:
        super().__init__()
        self.weight = parameter("weight", weight, dims=1)
        self.bias = optional_vector("bias", bias, weight.shape[0])
        self.axis = integer("axis", axis, low=1, high=8)

    def forward(self, *inputs: Tensor) -> Tensor:
        y = inputs[0] * per_channel(self.weight, inputs[0], self.axis)
        return y if self.bias is None else y + per_channel(self.bias, y, self.axis)

    def route(self, *events: Tensor) -> Tensor:
        return events[0]


@register("batch_norm")
class BatchNorm(StatelessOp):
    """Batch normalisation ``[B, C, ...]`` with running statistics; folded away by conversion."""

    affine = True
    attributes = ("eps", "momentum")
    tensor_names = ("running_mean", "running_var", "weight", "bias")
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if running_mean.dim() != 1 or running_var.shape != running_mean.shape:
            shapes = f"{tuple(running_mean.shape)} and {tuple(running_var.shape)}"
            raise ValueError(f"running_mean and running_var must both have shape (C,), got {shapes}")
        channels = len(running_mean)
        self.register_buffer("running_mean", running_mean)
        self.register_buffer("running_var", running_var)
        self.weight = optional_vector("weight", weight, channels)
        self.bias = optional_vector("bias", bias, channels)
        self.eps = number("eps", eps)
        self.momentum = number("momentum", momentum)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.batch_norm(
            inputs[0],
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )

    def route(self, *events: Tensor) -> Tensor:
        return events[0]

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` per channel of the inference form ``y = scale·x + shift``."""
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else shift + self.bias
