"""Normalisation with a value's own statistics; gains and shifts are an ``ElementwiseAffine`` after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Axes, Axis, Number, Positive
from seenn.core.ops.base import StatelessOp, register


@register("softmax")
class Softmax(StatelessOp):
    """``exp(x) / Σ exp(x)`` along ``axis``."""

    island = True
    axis: Axis

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].softmax(self.axis)


@register("layer_norm")
class LayerNorm(StatelessOp):
    """``(x − mean) / √(variance + eps)`` over ``axes``.

    Over the channels it is layer normalisation, over the positions of each channel instance normalisation, over
    a group of channels (an axis of its own, by ``Reshape``) group normalisation.
    """

    island = True
    axes: Axes
    eps: Number = 1e-5

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        last = range(x.dim() - len(self.axes), x.dim())
        if sorted(self.axes) == [*last]:  # which torch has a kernel for, several times as fast
            return F.layer_norm(x, x.shape[last[0] :], eps=self.eps)
        variance, mean = torch.var_mean(x, self.axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps)


@register("rms_norm")
class RMSNorm(StatelessOp):
    """``x / √(mean(x²) + eps)`` over ``axes``."""

    island = True
    axes: Axes
    eps: Number = 1e-6

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x * torch.rsqrt(x.square().mean(self.axes, keepdim=True) + self.eps)


@register("l2_normalise")
class L2Normalise(StatelessOp):
    """``x / max(‖x‖₂, eps)`` over ``axes``."""

    island = True
    axes: Axes
    eps: Number = 1e-12

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        norm: Tensor = torch.linalg.vector_norm(x, dim=self.axes, keepdim=True)
        return x / norm.clamp_min(self.eps)


@register("local_response_norm")
class LocalResponseNorm(StatelessOp):
    """``x / (k + alpha · mean of x² over ``size`` neighbouring channels)^beta`` (AlexNet of 2012, GoogLeNet)."""

    island = True
    size: Positive
    alpha: Number = 1e-4
    beta: Number = 0.75
    k: Number = 1.0

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.local_response_norm(inputs[0], self.size, self.alpha, self.beta, self.k)
