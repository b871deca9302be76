"""Normalisation with stored or with own statistics."""

from __future__ import annotations

from torch import nn

from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from seenn.capture import Refused


@imports("BatchNormalization")
def batch_norm(call: OnnxCall) -> Result:
    """``nn.BatchNorm2d`` or its like with the stored statistics."""
    if call.attribute("training_mode", 0) or not call.attribute("spatial", 1):  # spatial: before opset 9
        raise Refused("normalises with the statistics of the batch", "export the model in inference mode")
    x, eps = call.traced(), call.attribute("epsilon", 1e-5)
    kinds = {3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
    module = kinds.get(len(x.shape), nn.BatchNorm1d)(x.shape[0], eps=eps)
    module.weight, module.bias = parameter(call.tensor(1)), parameter(call.tensor(2))
    module.running_mean, module.running_var = call.tensor(3), call.tensor(4)
    return call.module(module, x)


@imports("InstanceNormalization")
def instance_norm(call: OnnxCall) -> Result:
    """``nn.InstanceNorm2d`` or its like."""
    x, axes = call.spatial()
    module = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[axes - 1](
        x.shape[0], eps=call.attribute("epsilon", 1e-5), affine=True
    )
    module.weight, module.bias = parameter(call.tensor(1)), parameter(call.tensor(2))
    return call.module(module, x)


@imports("LayerNormalization", rows=1)
def layer_norm(call: OnnxCall) -> Result:
    """``nn.LayerNorm`` over the axes from ``axis`` on."""
    x = call.traced()
    over = x.shape[call.axes_from(call.attribute("axis", -1), x) - 1 :]
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
    return call.module(nn.LocalResponseNorm(size, alpha=alpha, beta=beta, k=k), call.image())


@imports("Softmax", "LogSoftmax", rows=1)
def softmax(call: OnnxCall) -> Result:
    """Along one axis; before opset 13, over all from there on, of which one may be longer than 1."""
    x = call.traced()
    axis = call.attribute("axis", -1 if call.opset >= 13 else 1)
    axis = call.axis(axis, x) if call.opset >= 13 else call.axes_from(axis, x)
    if call.opset < 13:
        long = [place for place, size in enumerate(x.shape, 1) if place >= axis and size > 1]
        if len(long) > 1:
            raise Refused(f"goes over the axes from {axis} on at once", "export the model with opset 13 or newer")
        axis = long[0] if long else axis
    if x.shape[axis - 1] == 1:
        raise Refused("goes over one value, which makes it 1", "export it over the classes")
    return call.module((nn.Softmax if call.node.op_type == "Softmax" else nn.LogSoftmax)(axis), x)
