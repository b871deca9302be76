"""Normalisation with a value's own statistics; gains and shifts are an ``ElementwiseAffine`` after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import integer, integers, number
from seenn.core.ops.base import StatelessOp, register


@register("softmax")
class Softmax(StatelessOp):
    """``exp(x) / Σ exp(x)`` along ``axis``."""

    island = True
    attributes = ("axis",)

    def __init__(self, *, axis: int) -> None:
        super().__init__()
        self.axis = integer("axis", axis, low=1, high=8)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].softmax(self.axis)


@register("layer_norm")
class LayerNorm(StatelessOp):
    """``(x − mean) / √(variance + eps)`` over ``axes``.

    Over the channels it is layer normalisation, over the positions of each channel instance normalisation, over
    a group of channels (an axis of its own, by ``Reshape``) group normalisation.
    """

    island = True
    attributes = ("axes", "eps")

    def __init__(self, *, axes: tuple[int, ...], eps: float = 1e-5) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), low=1, high=8)
        self.eps = number("eps", eps)

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        variance, mean = torch.var_mean(x, self.axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps)


@register("rms_norm")
class RMSNorm(StatelessOp):
    """``x / √(mean(x²) + eps)`` over ``axes``."""

    island = True
    attributes = ("axes", "eps")

    def __init__(self, *, axes: tuple[int, ...], eps: float = 1e-6) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), low=1, high=8)
        self.eps = number("eps", eps)

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x * torch.rsqrt(x.square().mean(self.axes, keepdim=True) + self.eps)


@register("l2_normalise")
class L2Normalise(StatelessOp):
    """``x / max(‖x‖₂, eps)`` over ``axes``."""

    island = True
    attributes = ("axes", "eps")

    def __init__(self, *, axes: tuple[int, ...], eps: float = 1e-12) -> None:
        super().__init__()
        self.axes = integers("axes", axes, len(axes), low=1, high=8)
        self.eps = number("eps", eps)

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        norm: Tensor = torch.linalg.vector_norm(x, dim=self.axes, keepdim=True)
        return x / norm.clamp_min(self.eps)


@register("local_response_norm")
class LocalResponseNorm(StatelessOp):
    """``x / (k + alpha · mean of x² over ``size`` neighbouring channels)^beta`` (AlexNet of 2012, GoogLeNet)."""

    island = True
    attributes = ("size", "alpha", "beta", "k")

    def __init__(self, *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = integer("size", size, low=1)
        self.alpha, self.beta, self.k = number("alpha", alpha), number("beta", beta), number("k", k)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.local_response_norm(inputs[0], self.size, self.alpha, self.beta, self.k)
