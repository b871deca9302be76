"""Activations of the analog network: the call sites that conversion turns into neurons."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seenn.ops.arguments import number, parameter, per_channel
from seenn.ops.base import StatelessOp, register


class Activation(StatelessOp):
    """A pointwise function with a neuron that computes it; ``Neuron.activation()`` is the way back."""

    #: Its values may be below zero, so that only spikes of both signs can carry them.
    two_sided: ClassVar[bool] = False

    @property
    def monotone(self) -> bool:
        """Whether a larger input never has a smaller value, so that it commutes with a maximum."""
        return True


@register("relu")
class ReLU(Activation):
    """``clip(x, 0, ceiling)``; ``ceiling`` None means none, 6 is ReLU6."""

    attributes = ("ceiling",)

    def __init__(self, *, ceiling: float | None = None) -> None:
        super().__init__()
        self.ceiling = None if ceiling is None else number("ceiling", ceiling, above=0.0)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu() if self.ceiling is None else inputs[0].clamp(0.0, self.ceiling)


@register("leaky_relu")
class LeakyReLU(Activation):
    """``x`` where x > 0, else ``slope · x``: LeakyReLU, and PReLU with a slope per channel, scalar or ``[C]``."""

    two_sided = True
    homogeneous = True
    tensor_names = ("slope",)

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = parameter("slope", slope, dims=(0, 1))

    @property
    def monotone(self) -> bool:
        return bool((self.slope >= 0).all())

    def forward(self, *inputs: Tensor) -> Tensor:
        return leaky_relu(inputs[0], per_channel(self.slope, inputs[0]))


def leaky_relu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where x > 0, else ``slope · x``; ``slope`` broadcasts to ``x``."""
    return torch.where(x > 0, x, slope * x)
