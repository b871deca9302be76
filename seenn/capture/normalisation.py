"""Softmax and normalisation with a value's own statistics: split into a function without weights and an affine op."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture.handlers import Call, Made, Refused, Result, any_layout, handles
from seenn.ops import (
    ElementwiseAffine,
    L2Norm,
    L2Normalise,
    LayerNorm,
    LocalResponseNorm,
    Pointwise,
    Reshape,
    RMSNorm,
    Softmax,
)


@handles(nn.Softmax, nn.LogSoftmax)
@any_layout
def softmax_module(call: Call) -> Result:
    assert isinstance(call.module, nn.Softmax | nn.LogSoftmax)
    return _softmax(call, call.module.dim, logarithm=isinstance(call.module, nn.LogSoftmax))


@handles(F.softmax, torch.softmax, "softmax")
@any_layout
def softmax(call: Call) -> Result:
    return _softmax(call, call.argument(1, "dim"))


@handles(F.log_softmax, torch.log_softmax, "log_softmax")
@any_layout
def log_softmax(call: Call) -> Result:
    return _softmax(call, call.argument(1, "dim"), logarithm=True)


def _softmax(call: Call, axis: Any, *, logarithm: bool = False) -> Result:
    if not isinstance(axis, int):
        raise Refused("does not say along which axis", "give it dim")
    made = Made(Softmax(axis=call.axis(axis)), (call.args[0],))
    return Made(Pointwise(function="log"), (made,)) if logarithm else made


@handles(nn.LayerNorm)
@any_layout
def layer_norm_module(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.LayerNorm)
    return _layer_norm(call, len(m.normalized_shape), m.weight, m.bias, m.eps)


@handles(F.layer_norm, torch.layer_norm)
@any_layout
def layer_norm(call: Call) -> Result:
    weight, bias = weight_of(call, 2, "weight"), weight_of(call, 3, "bias")
    return _layer_norm(call, len(call.argument(1, "normalized_shape")), weight, bias, call.argument(4, "eps", 1e-5))


def _layer_norm(call: Call, axes: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Result:
    made = Made(LayerNorm(axes=call.axes(tuple(range(-axes, 0))), eps=eps), (call.args[0],))
    return affine(made, weight, bias)


@handles(nn.RMSNorm)
@any_layout
def rms_norm_module(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.RMSNorm)
    return _rms_norm(call, len(m.normalized_shape), m.weight, m.eps)


@handles(F.rms_norm)
@any_layout
def rms_norm(call: Call) -> Result:
    shape = call.argument(1, "normalized_shape")
    return _rms_norm(call, len(shape), weight_of(call, 2, "weight"), call.argument(3, "eps"))


def _rms_norm(call: Call, axes: int, weight: Tensor | None, eps: float | None) -> Result:
    if eps is None:
        raise Refused("takes its eps from the type of its values", "give it an eps")
    return affine(Made(RMSNorm(axes=call.axes(tuple(range(-axes, 0))), eps=eps), (call.args[0],)), weight, None)


@handles(nn.GroupNorm)
def group_norm_module(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.GroupNorm)
    return _group_norm(call, m.num_groups, m.weight, m.bias, m.eps)


@handles(F.group_norm)
def group_norm(call: Call) -> Result:
    weight, bias = weight_of(call, 2, "weight"), weight_of(call, 3, "bias")
    return _group_norm(call, call.argument(1, "num_groups"), weight, bias, call.argument(4, "eps", 1e-5))


@handles(nn.InstanceNorm1d, nn.InstanceNorm2d)
def instance_norm_module(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.InstanceNorm1d | nn.InstanceNorm2d)
    if m.track_running_stats:
        raise Refused("normalises with stored statistics", "use batch normalisation, which is folded away")
    return _group_norm(call, m.num_features, m.weight, m.bias, m.eps)


def _group_norm(call: Call, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Result:
    """Over each group's channels and positions; one group is layer, one a channel instance normalisation."""
    shape = call.image()
    if groups in (1, shape[0]):
        axes = tuple(range(1 if groups == 1 else 2, len(shape) + 1))
        made = Made(LayerNorm(axes=axes, eps=eps), (call.args[0],))
    else:
        grouped = Made(Reshape(shape=(groups, math.prod(shape) // groups)), (call.args[0],))
        made = Made(Reshape(shape=shape), (Made(LayerNorm(axes=(2,), eps=eps), (grouped,)),))
    along = (-1,) + (1,) * (len(shape) - 1)
    return affine(made, None if weight is None else weight.view(along), None if bias is None else bias.view(along))


@handles(F.normalize)
@any_layout
def normalize(call: Call) -> Result:
    if call.argument(1, "p", 2.0) != 2:
        raise Refused(f"normalises by a norm other than the Euclidean: p={call.argument(1, 'p')}", "use p=2")
    op = L2Normalise(axes=call.axes(call.argument(2, "dim", 1)), eps=call.argument(3, "eps", 1e-12))
    return Made(op, (call.args[0],))


@handles(torch.norm, torch.linalg.vector_norm, torch.linalg.norm, "norm", torch.ops.aten.linalg_vector_norm)
@any_layout
def norm(call: Call) -> Result:
    order, axes = call.argument(1, "p", call.kwargs.get("ord", 2)), call.argument(2, "dim")
    if order not in (2, 2.0, "fro", None) or axes is None:
        raise Refused("takes a norm other than the Euclidean one of named axes", "use p=2 and give dim")
    return Made(L2Norm(axes=call.axes(axes), keepdim=bool(call.argument(3, "keepdim", False))), (call.args[0],))


@handles(nn.LocalResponseNorm)
def local_response_norm(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.LocalResponseNorm)
    return Made(LocalResponseNorm(size=m.size, alpha=m.alpha, beta=m.beta, k=m.k), (call.args[0],))


def affine(made: Made, weight: Tensor | None, bias: Tensor | None) -> Made:
    """``made`` with a gain and a shift after it, where there are any."""
    return made if weight is None and bias is None else Made(ElementwiseAffine(weight, bias), (made,))


def weight_of(call: Call, position: int, name: str) -> Tensor | None:
    """An optional weight given as an argument."""
    if (value := call.argument(position, name)) is None:
        return None
    return call.constant(value)
