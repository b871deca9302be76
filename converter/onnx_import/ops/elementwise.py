"""Functions of one value at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor, nn

from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from seenn.capture import Refused

_LARGEST = float(np.finfo(np.float32).max)  # old opsets' way of saying "no bound"

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}
_MODULES: dict[str, Callable[[OnnxCall], nn.Module]] = {
    "Celu": lambda call: nn.CELU(call.attribute("alpha", 1.0)),
    "Elu": lambda call: nn.ELU(call.attribute("alpha", 1.0)),
    "Gelu": lambda call: nn.GELU(call.attribute("approximate", "none")),
    "LeakyRelu": lambda call: nn.LeakyReLU(call.attribute("alpha", 0.01)),
    "Relu": lambda call: nn.ReLU(),
    "Selu": lambda call: nn.SELU(),
    "ThresholdedRelu": lambda call: nn.Threshold(call.attribute("alpha", 1.0), 0.0),
}


@imports(*_FUNCTIONS, rows=1)
def function(call: OnnxCall) -> Result:
    """The torch function of the same name."""
    return call.function(_FUNCTIONS[call.node.op_type], call.traced())


@imports(*_MODULES, rows=1)
def module(call: OnnxCall) -> Result:
    """The torch module of the same name."""
    return call.module(_MODULES[call.node.op_type](call), call.traced())


@imports("Identity", "Dropout", "Cast", rows=1)
def identity(call: OnnxCall) -> Result:
    """The same value, in inference and as float32."""
    if call.node.op_type == "Dropout" and call.value(2) is not None and bool(call.array(2)):
        raise Refused("is always on (training_mode)", "export the model in inference mode")
    if call.attribute("to", TensorProto.FLOAT) != TensorProto.FLOAT:
        raise Refused("casts activations to another type", "export the model in float32")
    return call.traced()


@imports("Clip", rows=1)
def clip(call: OnnxCall) -> Result:
    """``nn.ReLU``, ``nn.ReLU6`` or ``nn.Hardtanh`` where the bounds are theirs."""
    x, low, high = call.traced(), call.setting("min", 1), call.setting("max", 2)
    low = None if low is None or low <= -_LARGEST else float(low)
    high = None if high is None or high >= _LARGEST else float(high)
    if low is None and high is None:
        return x
    if low == 0 and high in (None, 6):
        return call.module(nn.ReLU() if high is None else nn.ReLU6(), x)
    if low is not None and high is not None and low < high:
        return call.module(nn.Hardtanh(low, high), x)
    return call.function(torch.clamp, x, low, high)


@imports("PRelu")
def prelu(call: OnnxCall) -> Result:
    """``nn.PReLU`` with one slope, or one a channel."""
    x, slope = call.traced(), call.tensor(1)
    aligned = (1,) * (len(x.shape) + 1 - slope.dim()) + tuple(slope.shape)
    if slope.numel() != 1 and aligned != (1, x.shape[0], *[1] * (len(x.shape) - 1)):
        raise Refused(f"has slopes of shape {list(slope.shape)}", "expected one, or one a channel")
    prelu = nn.PReLU(slope.numel())
    prelu.weight = parameter(slope.reshape(-1))
    return call.module(prelu, x)


@imports("HardSigmoid", rows=1)
def hard_sigmoid(call: OnnxCall) -> Result:
    """``nn.Hardsigmoid`` where the slope is torch's 1/6, else ``clamp(alpha x + beta, 0, 1)``."""
    x, alpha, beta = call.traced(), call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return call.module(nn.Hardsigmoid(), x)
    scaled: Any = call.function(torch.mul, x, alpha)
    return call.function(torch.clamp, call.function(torch.add, scaled, beta), 0.0, 1.0)


@imports("Swish", rows=1)
def swish(call: OnnxCall) -> Result:
    """``nn.SiLU``."""
    if call.attribute("alpha", 1.0) != 1:
        raise Refused(f"has alpha={call.attribute('alpha')}", "expected 1, which is SiLU")
    return call.module(nn.SiLU(), call.traced())


@imports("Pow", rows=1)
def power(call: OnnxCall) -> Result:
    """A constant power."""
    exponent = call.array(1)
    if exponent.size != 1:
        raise Refused(f"has exponents of shape {list(exponent.shape)}", "expected one number")
    return call.function(torch.pow, call.traced(), float(exponent.reshape(())))
