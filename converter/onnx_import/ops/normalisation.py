"""Normalisation with stored or with own statistics."""

from __future__ import annotations

import math

from torch import Tensor, nn

from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from converter.onnx_import.values import Traced
from seenn.capture import Refused


@imports("BatchNormalization")
def batch_norm(call: OnnxCall) -> Result:
    """``nn.BatchNorm1d`` or ``nn.BatchNorm2d`` with the stored statistics."""
    if call.attribute("training_mode", 0):
        raise Refused("normalises with the statistics of the batch", "export the model in inference mode")
    scale, bias, mean, variance = (call.tensor(i) for i in range(1, 5))
    return stored_norm(call, call.traced(), scale, bias, mean, variance, call.attribute("epsilon", 1e-5))


def stored_norm(
    call: OnnxCall, x: Traced, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Traced:
    """``(x - mean) / sqrt(variance + eps) · scale + bias`` per channel, axis 1."""
    if not 1 <= len(x.shape) <= 3:
        raise Refused(f"normalises {len(x.shape) + 1} axes", "expected 2 to 4")
    channels = x.shape[0]
    if any(tensor.shape != (channels,) for tensor in (scale, bias, mean, variance)):
        shapes = [list(tensor.shape) for tensor in (scale, bias, mean, variance)]
        raise Refused(f"has statistics of shapes {shapes}", f"expected [{channels}], one a channel")
    module = (nn.BatchNorm2d if len(x.shape) == 3 else nn.BatchNorm1d)(channels, eps=eps)
    module.weight, module.bias = parameter(scale), parameter(bias)
    module.running_mean, module.running_var = mean, variance
    return call.module(module, x)


@imports("InstanceNormalization")
def instance_norm(call: OnnxCall) -> Result:
    """``nn.InstanceNorm2d``."""
    x = call.image()
    module = nn.InstanceNorm2d(x.shape[0], eps=call.attribute("epsilon", 1e-5), affine=True)
    module.weight, module.bias = parameter(call.tensor(1)), parameter(call.tensor(2))
    return call.module(module, x)


@imports("LayerNormalization")
def layer_norm(call: OnnxCall) -> Result:
    """``nn.LayerNorm`` over the axes from ``axis`` on."""
    x = call.traced()
    over = x.shape[call.axis(call.attribute("axis", -1), x) - 1 :]
    module = nn.LayerNorm(over, eps=call.attribute("epsilon", 1e-5), bias=call.value(2) is not None)
    module.weight = parameter(call.tensor(1).expand(over).contiguous())
    if call.value(2) is not None:
        module.bias = parameter(call.tensor(2).expand(over).contiguous())
    return call.module(module, x)


@imports("GroupNormalization")
def group_norm(call: OnnxCall) -> Result:
    """``nn.GroupNorm``; before opset 21 scale and bias are per group."""
    x, groups = call.traced(), call.attribute("num_groups")
    module = nn.GroupNorm(groups, x.shape[0], eps=call.attribute("epsilon", 1e-5))
    repeats = x.shape[0] // groups if call.opset < 21 else 1
    module.weight = parameter(call.tensor(1).repeat_interleave(repeats))
    module.bias = parameter(call.tensor(2).repeat_interleave(repeats))
    return call.module(module, x)


@imports("LRN")
def local_response_norm(call: OnnxCall) -> Result:
    """``nn.LocalResponseNorm``: the same formula where the window has a middle."""
    size = call.attribute("size")
    if size % 2 == 0:
        raise Refused(f"normalises over {size} channels", "expected an odd number")
    alpha, beta, k = (call.attribute(*item) for item in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    if not all(map(math.isfinite, (alpha, beta, k))):
        raise Refused("has constants that are not finite", "export the model again")
    return call.module(nn.LocalResponseNorm(size, alpha=alpha, beta=beta, k=k), call.image())
