"""Activations that torch has as modules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from seenn.capture import Refused

_LARGEST = float(np.finfo(np.float32).max)  # old opsets' way of saying "no bound"


@imports("Relu")
def relu(call: OnnxCall) -> Result:
    """``nn.ReLU``."""
    return call.module(nn.ReLU(), call.traced())


@imports("Clip")
def clip(call: OnnxCall) -> Result:
    """``nn.ReLU``, ``nn.ReLU6`` or ``nn.Hardtanh`` where the bounds are theirs."""
    x, low, high = call.traced(), call.setting("min", 1), call.setting("max", 2)
    low = None if low is None or low <= -_LARGEST else float(low)
    high = None if high is None or high >= _LARGEST else float(high)
    if low is None and high is None:
        return x
    if low == 0 and high is None:
        return call.module(nn.ReLU(), x)
    if low == 0 and high == 6:
        return call.module(nn.ReLU6(), x)
    if low is not None and high is not None and low < high:
        return call.module(nn.Hardtanh(low, high), x)
    return call.function(torch.clamp, x, low, high)


@imports("LeakyRelu")
def leaky_relu(call: OnnxCall) -> Result:
    """``nn.LeakyReLU``."""
    return call.module(nn.LeakyReLU(call.attribute("alpha", 0.01)), call.traced())


@imports("PRelu")
def prelu(call: OnnxCall) -> Result:
    """``nn.PReLU`` with one slope, or one a channel."""
    x, slope = call.traced(), call.tensor(1)
    aligned = (1,) * (len(x.shape) + 1 - slope.dim()) + tuple(slope.shape)
    if slope.numel() != 1 and aligned != (1, x.shape[0], *[1] * (len(x.shape) - 1)):
        raise Refused(f"has slopes of shape {list(slope.shape)}", "expected one, or one a channel")
    module = nn.PReLU(slope.numel())
    module.weight = parameter(slope.reshape(-1))
    return call.module(module, x)


@imports("HardSigmoid")
def hard_sigmoid(call: OnnxCall) -> Result:
    """``nn.Hardsigmoid`` where the slope is torch's 1/6, else ``clamp(alpha x + beta, 0, 1)``."""
    x, alpha, beta = call.traced(), call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return call.module(nn.Hardsigmoid(), x)
    scaled: Any = call.function(torch.mul, x, alpha)
    return call.function(torch.clamp, call.function(torch.add, scaled, beta), 0.0, 1.0)


@imports("Elu", "Celu", "Gelu", "Swish")
def shaped(call: OnnxCall) -> Result:
    """Activations with one parameter."""
    x, op, alpha = call.traced(), call.node.op_type, call.attribute("alpha", 1.0)
    if op == "Gelu":
        return call.module(nn.GELU(call.attribute("approximate", "none")), x)
    if op != "Swish":
        return call.module(nn.ELU(alpha) if op == "Elu" else nn.CELU(alpha), x)
    if alpha != 1:
        raise Refused(f"has alpha={alpha}", "expected 1, which is SiLU")
    return call.module(nn.SiLU(), x)


@imports("Softmax", "LogSoftmax")
def softmax(call: OnnxCall) -> Result:
    """Inside the network, as in attention, along one axis; the last one of a classifier does not come here."""
    x = call.traced()
    axis = call.axis(call.attribute("axis", -1 if call.opset >= 13 else 1), x)
    if call.opset < 13 and math.prod(x.shape[axis:]) != 1:
        raise Refused(f"goes over the axes from {axis} on at once", "export the model with opset 13 or newer")
    return call.module((nn.Softmax if call.node.op_type == "Softmax" else nn.LogSoftmax)(axis), x)
