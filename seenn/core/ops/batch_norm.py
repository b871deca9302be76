"""Batch normalisation; in training two passes over the batch each way, where there is compiled code for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seenn import native
from seenn.core.ops.arguments import Number, OptionalVector, check_length
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value
from seenn.native import norm


def _statistic(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or value.dim() != 1:
        raise ValueError(f"{name} must be a tensor of shape (C,), got {getattr(value, 'shape', value)}")
    return value


@register("batch_norm")
class BatchNorm(StatelessOp):
    """Batch normalisation ``[B, C, ...]`` with running statistics; folded away by conversion."""

    affine = True
    running_mean: Annotated[Tensor, _statistic]
    running_var: Annotated[Tensor, _statistic]
    weight: OptionalVector = None
    bias: OptionalVector = None
    eps: Number = 1e-5
    momentum: Number = 0.1

    def __post_init__(self) -> None:
        channels = len(self.running_mean)
        for name in ("running_var", "weight", "bias"):
            check_length(name, getattr(self, name), channels)
        for name in ("running_mean", "running_var"):
            statistic = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, statistic)

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

    def shaped(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if x.dim() < 2 or x.shape[1] != len(self.running_mean):  # torch says so too, after a long way through Python
            raise RuntimeError(f"running_mean has {len(self.running_mean)} elements, got a value {list(x.shape)}")
        return torch.empty_like(x)

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
