"""Sums and products of activations, and of activations with constants."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Known, Traced
from seenn.capture import Refused

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Mean": operator.add,
    "Sum": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
}
_SCALER = (("offset", 0.0), ("scale", 1.0))
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}


@imports(*_OPERATORS, rows=math.inf)
def arithmetic(call: OnnxCall) -> Result:
    """``a + b + …`` or the mean of them, ``a - b``, ``a · b`` or ``a / b``."""
    function = _OPERATORS[call.node.op_type]
    positions = list(range(len(call.inputs)))
    if function is operator.add:
        positions.sort(key=lambda i: isinstance(call.value(i), Known))  # constants meet the activations' sum
    operands = [_operand(call, i) for i in positions]
    result: Traced = reduce(lambda left, right: call.function(function, left, right), operands)
    return call.function(operator.truediv, result, len(operands)) if call.node.op_type == "Mean" else result


@imports("Scaler")
def scaler(call: OnnxCall) -> Result:
    """scikit-learn's ``(x - offset) · scale`` of vectors, each one number or one a feature."""
    x = call.traced()
    if len(x.shape) != 1:
        raise Refused(f"works on {len(x.shape) + 1} axes", "expected vectors [B, F]")
    offset, scale = (call.buffer(torch.tensor(call.attribute(name, [default]))) for name, default in _SCALER)
    return call.function(operator.mul, call.function(operator.sub, x, offset), scale)


@imports(*_COMPARISONS, rows=math.inf)
def comparison(call: OnnxCall) -> Result:
    """``a > b`` and its like, as conditions of a ``Where``."""
    return call.function(_COMPARISONS[call.node.op_type], *(_operand(call, i) for i in (0, 1)))


@imports("Where", rows=math.inf)
def where(call: OnnxCall) -> Result:
    """``torch.where`` under a condition that comes from the image, or is a constant mask."""
    return call.function(torch.where, *(_operand(call, i) for i in range(3)))


@imports("Max", "Min", rows=math.inf)
def extreme(call: OnnxCall) -> Result:
    """``torch.clamp`` where one of two is a number, else pair by pair."""
    largest = call.node.op_type == "Max"
    numbers = [i for i in range(len(call.inputs)) if isinstance(call.value(i), Known)]
    result = call.traced(next(i for i in range(len(call.inputs)) if i not in numbers))
    for i in numbers:
        bound = call.tensor(i)
        if bound.numel() != 1:
            raise Refused(f"compares with a constant of shape {list(bound.shape)}", "expected one number")
        result = call.function(torch.clamp, result, *((float(bound), None) if largest else (None, float(bound))))
    for value in (v for v in call.inputs if isinstance(v, Traced)):
        result = call.function(torch.maximum if largest else torch.minimum, result, value)
    return result


def _operand(call: OnnxCall, position: int) -> Any:
    """The activation at ``position``, or a constant as a number or a buffer; refuses one with an axis of images."""
    if not isinstance(call.value(position), Known):
        return call.traced(position)
    constant = call.constant(position)
    scales = call.node.op_type in ("Mul", "Div", *_COMPARISONS, "Where") and constant.numel() == 1
    return float(constant) if scales and constant.dtype != torch.bool else call.buffer(constant)
