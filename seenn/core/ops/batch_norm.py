"""Batch normalisation; in training two passes over the batch each way, where there is compiled code for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seenn import native
from seenn.core.ops.arguments import number, optional_vector
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value
from seenn.native import norm


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
        (x,) = inputs
        compiled = None
        if self.training and type(x) is Tensor:  # not of those that carry nothing but a shape
            compiled = norm.plan(native.load("training"), x, self.running_mean, self.weight, self.bias)
        if compiled is not None:
            y, mean, variance = _Normalised.apply(x, self.weight, self.bias, self.running_mean, self.eps, compiled)
            with torch.no_grad():
                count = x.numel() // len(mean)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            result: Tensor = y
            return result
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )

    def route(self, *events: Tensor) -> Tensor:
        return events[0]

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.times(inputs[0], *self.as_affine(), axis=1)

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)`` per channel of the inference form ``y = scale·x + shift``."""
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        return scale, shift if self.bias is None else shift + self.bias


class _Normalised(torch.autograd.Function):
    """``y``, and the batch's mean and (biased) variance, which get no gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        centre: Tensor,
        eps: float,
        compiled: norm.Norm,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, variance, root = compiled.forward(x, centre, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, root)
        ctx.compiled, ctx.has_bias = compiled, bias is not None
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, mean, root = ctx.saved_tensors
        compiled: norm.Norm = ctx.compiled
        dy = grads[0]
        if dy is None:
            return (None,) * 6
        dy = dy if compiled.fits(dy) else torch.empty_like(x).copy_(dy)
        dx, at_weight, at_bias = compiled.backward(x, dy, mean, root, weight)
        return dx, None if weight is None else at_weight, at_bias if ctx.has_bias else None, None, None, None
