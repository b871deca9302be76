"""Functions of one value at a time, without settings."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from converter.onnx_import.registry import OnnxCall, Result, imports
from seenn.capture import Refused

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "HardSwish": F.hardswish,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Sigmoid": torch.sigmoid,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
}


@imports(*_FUNCTIONS)
def function(call: OnnxCall) -> Result:
    """The torch function of the same name."""
    return call.function(_FUNCTIONS[call.node.op_type], call.traced())


@imports("Pow")
def power(call: OnnxCall) -> Result:
    """A constant power."""
    exponent = call.array(1)
    if exponent.size != 1:
        raise Refused(f"has exponents of shape {list(exponent.shape)}", "expected one number")
    return call.function(torch.pow, call.traced(), float(exponent.reshape(())))
