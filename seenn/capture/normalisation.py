"""Softmax and normalisation with a value's own statistics: split into a function without weights and an affine op."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture.handlers import Call, Made, Refused, Result, called, handles
from seenn.capture.rows import by_row
from seenn.core.ops import (
    BatchNorm,
    Divide,
    ElementwiseAffine,
    L2Norm,
    L2Normalise,
    LayerNorm,
    LocalResponseNorm,
    Mean,
    Pointwise,
    Reshape,
    RMSNorm,
    Scale,
    Softmax,
)


@handles(nn.Softmax, "softmax", any_layout=True)
def softmax(call: Call) -> Made:
    axis = call.argument(1, "dim")
    if not isinstance(axis, int):
        raise Refused("does not say along which axis", "give it dim")
    return call.of(Softmax(axis=call.axis(axis)))


@handles(nn.LogSoftmax, "log_softmax", any_layout=True)
def log_softmax(call: Call) -> Result:
    return Made(Pointwise(function="log"), (softmax(call),))


@handles(nn.LayerNorm, "layer_norm", any_layout=True)
def layer_norm(call: Call) -> Result:
    op = LayerNorm(axes=_last(call), eps=call.argument(4, "eps", 1e-5))
    return affine(call.of(op), call.weight(2, "weight"), call.weight(3, "bias"))


@handles(nn.RMSNorm, "rms_norm", any_layout=True)
def rms_norm(call: Call) -> Result:
    eps = call.argument(3, "eps")
    if eps is None:
        raise Refused("takes its eps from the type of its values", "give it an eps")
    return affine(call.of(RMSNorm(axes=_last(call), eps=eps)), call.weight(2, "weight"), None)


def _last(call: Call) -> tuple[int, ...]:
    """The axes that ``normalized_shape`` names."""
    return call.axes(tuple(range(-len(call.argument(1, "normalized_shape")), 0)))


@handles(nn.GroupNorm, "group_norm")
def group_norm(call: Call) -> Result:
    eps = call.argument(4, "eps", 1e-5)
    return _group_norm(call, call.argument(1, "num_groups"), call.weight(2, "weight"), call.weight(3, "bias"), eps)


@handles(nn.InstanceNorm1d, nn.InstanceNorm2d, F.instance_norm)
def instance_norm(call: Call) -> Result:
    return _instance_norm(call, weight=3, mean=1)


@handles(torch.ops.aten.instance_norm, torch.instance_norm)
def instance_norm_operator(call: Call) -> Result:
    return _instance_norm(call, weight=1, mean=3)


def _instance_norm(call: Call, weight: int, mean: int) -> Result:
    """With its own statistics or stored ones; ``weight`` and ``mean``, where these are among the arguments."""
    gain, bias = call.weight(weight, "weight"), call.weight(weight + 1, "bias")
    eps = call.argument(7, "eps", 1e-5)
    stored = getattr(call.module, "track_running_stats", not call.argument(5, "use_input_stats", True))
    if not stored:
        return _group_norm(call, call.image()[0], gain, bias, eps)
    means, variances = call.weight(mean, "running_mean"), call.weight(mean + 1, "running_var")
    if means is None or variances is None:
        raise Refused("normalises with statistics that it does not have", "give it running_mean and running_var")
    op = BatchNorm(means, variances, gain, bias, eps=eps)
    return by_row(lambda call: call.of(op.eval()))(call)


def _group_norm(call: Call, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Result:
    """Over each group's channels and positions; one group is layer, one a channel instance normalisation."""
    shape = call.image()
    if groups in (1, shape[0]):
        axes = tuple(range(1 if groups == 1 else 2, len(shape) + 1))
        made = call.of(LayerNorm(axes=axes, eps=eps))
    else:
        grouped = call.of(Reshape(shape=(groups, math.prod(shape) // groups)))
        made = Made(Reshape(shape=shape), (Made(LayerNorm(axes=(2,), eps=eps), (grouped,)),))
    along = (-1,) + (1,) * (len(shape) - 1)
    return affine(made, None if weight is None else weight.view(along), None if bias is None else bias.view(along))


@handles("normalize", any_layout=True)
def normalize(call: Call) -> Result:
    """``x / max(‖x‖ₚ, eps)``."""
    order, axes, eps = call.argument(1, "p", 2.0), call.axes(call.argument(2, "dim", 1)), call.argument(3, "eps", 1e-12)
    if order == 2:
        return call.of(L2Normalise(axes=axes, eps=eps))
    limited = Made(Pointwise(function="clamp_min", settings={"min": float(eps)}), (_norm(call, order, axes, True),))
    return Made(Divide(), (call.args[0], limited))


@handles("norm", "linalg_norm", "linalg_vector_norm", any_layout=True)
def norm(call: Call) -> Result:
    order, dims = call.argument(1, "p", call.kwargs.get("ord", 2)), call.argument(2, "dim")
    if dims is None:
        raise Refused("takes the norm of the whole batch", "give it dim")
    axes, keepdim = call.axes(dims), bool(call.argument(3, "keepdim", False))
    if order in (2, 2.0, "fro", None):
        return call.of(L2Norm(axes=axes, keepdim=keepdim))
    if len(axes) > 1 and called(call.node.target) == "linalg_norm":
        raise Refused("takes a norm of matrices", "use torch.linalg.vector_norm")
    return _norm(call, order, axes, keepdim)


def _norm(call: Call, order: Any, axes: tuple[int, ...], keepdim: bool) -> Made:
    """``(Σ|x|ᵖ)^(1/p)``."""
    if not isinstance(order, int | float) or not 0 < order < math.inf:
        raise Refused(
            f"takes the norm of order {order}", "take one above 0 and finite, or x.abs().amax(1) for infinity"
        )
    count, parts = math.prod(call.image()[axis - 1] for axis in axes), call.of(Pointwise(function="abs"))
    if order != 1:
        parts = Made(Pointwise(function="pow", settings={"exponent": float(order)}), (parts,))
    total = Made(Scale(factor=float(count)), (Made(Mean(axes=axes, keepdim=keepdim), (parts,)),))
    return total if order == 1 else Made(Pointwise(function="pow", settings={"exponent": 1.0 / order}), (total,))


@handles(nn.LocalResponseNorm, "local_response_norm")
def local_response_norm(call: Call) -> Result:
    alpha, beta, k = (call.argument(*item) for item in ((2, "alpha", 1e-4), (3, "beta", 0.75), (4, "k", 1.0)))
    return call.of(LocalResponseNorm(size=call.argument(1, "size"), alpha=alpha, beta=beta, k=k))


def affine(made: Made, weight: Tensor | None, bias: Tensor | None) -> Made:
    """``made`` with a gain and a shift after it, where there are any."""
    return made if weight is None and bias is None else Made(ElementwiseAffine(weight, bias), (made,))
