"""Constants of the network that meet activations: gains, shifts, embeddings, tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.core.ops.arguments import OptionalWeight, Weight
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value


@register("elementwise_affine")
class ElementwiseAffine(StatelessOp):
    """``y = weight · x + bias``, both broadcast against ``x`` without its batch: the gains of layer
    normalisation, layer scale, position embeddings and bias tables.

    The bias acts in every step, so that it adds up to t · bias as the activations do.
    """

    affine = True
    weight: OptionalWeight = None
    bias: OptionalWeight = None

    def __post_init__(self) -> None:
        if self.weight is None and self.bias is None:
            raise ValueError("an elementwise affine map needs a weight or a bias")

    def forward(self, *inputs: Tensor) -> Tensor:
        (y,) = inputs
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias

    def route(self, *events: Tensor) -> Tensor:
        (x,) = events
        return x.expand_as(self(x))

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        weight = torch.ones(()) if self.weight is None else self.weight
        return lowering.times(inputs[0], weight, self.bias)


@register("constant")
class Constant(StatelessOp):
    """``value`` for every image, whatever the input: a class token. It is there in every step."""

    affine = True
    value: Weight

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.value.expand(inputs[0].shape[0], *self.value.shape)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return 0
