"""Sums and constant factors: affine maps that are not synapses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.arguments import Axis, Number, OptionalVector, check_length, parameter, per_channel
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value


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

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.add(inputs)


@register("concat")
class Concat(StatelessOp):
    """Inputs joined along ``axis``."""

    affine = True
    joins = True
    axis: Axis = 1

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=self.axis)

    def write(self, out: Tensor, *inputs: Tensor) -> None:
        torch.cat(inputs, dim=self.axis, out=out)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.concat(self, inputs)


@register("scale")
class Scale(StatelessOp):
    """``y = factor · x`` with a constant factor."""

    affine = True
    factor: Number

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * self.factor

    def route(self, *events: Tensor) -> Tensor:
        return events[0]

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.times(inputs[0], torch.tensor(self.factor, dtype=torch.float64))


@register("shift")
class Shift(StatelessOp):
    """``y = x + amount`` with a constant amount, added in every step."""

    affine = True
    amount: Number

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + self.amount

    def route(self, *events: Tensor) -> Tensor:
        return events[0]

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.times(inputs[0], torch.ones(()), torch.tensor(self.amount, dtype=torch.float64))


@register("channel_affine")
class ChannelAffine(StatelessOp):
    """``y[:, c] = weight[c] · x[:, c] + bias[c]``: a normalisation that could not be folded further."""

    affine = True
    weight: Annotated[Tensor, partial(parameter, dims=(1,))]
    bias: OptionalVector = None
    axis: Axis = 1

    def __post_init__(self) -> None:
        check_length("bias", self.bias, len(self.weight))

    def forward(self, *inputs: Tensor) -> Tensor:
        y = inputs[0] * per_channel(self.weight, inputs[0], self.axis)
        return y if self.bias is None else y + per_channel(self.bias, y, self.axis)

    def route(self, *events: Tensor) -> Tensor:
        return events[0]

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.times(inputs[0], self.weight, self.bias, self.axis)
