"""Constants of the network that meet activations: gains, shifts, embeddings, tokens."""

from __future__ import annotations

from torch import Tensor

from seenn.core.ops.arguments import parameter
from seenn.core.ops.base import StatelessOp, register

_ANY = tuple(range(9))


@register("elementwise_affine")
class ElementwiseAffine(StatelessOp):
    """``y = weight · x + bias``, both broadcast against ``x`` without its batch: the gains of layer
    normalisation, layer scale, position embeddings and bias tables.

    The bias acts in every step, so that it adds up to t · bias as the activations do.
    """

    affine = True
    tensor_names = ("weight", "bias")

    def __init__(self, weight: Tensor | None = None, bias: Tensor | None = None) -> None:
        super().__init__()
        if weight is None and bias is None:
            raise ValueError("an elementwise affine map needs a weight or a bias")
        self.weight = None if weight is None else parameter("weight", weight, dims=_ANY)
        self.bias = None if bias is None else parameter("bias", bias, dims=_ANY)

    def forward(self, *inputs: Tensor) -> Tensor:
        (y,) = inputs
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias

    def route(self, *events: Tensor) -> Tensor:
        (x,) = events
        return x.expand_as(self(x))


@register("constant")
class Constant(StatelessOp):
    """``value`` for every image, whatever the input: a class token. It is there in every step."""

    affine = True
    tensor_names = ("value",)

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = parameter("value", value, dims=_ANY)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.value.expand(len(inputs[0]), *self.value.shape)
