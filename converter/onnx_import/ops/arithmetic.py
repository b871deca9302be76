"""Sums and products of activations, and of activations with constants.

A constant per channel becomes a ``BatchNorm`` with the statistics 0 and 1, which conversion folds away.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from converter.onnx_import.ops.normalisation import stored_norm
from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Known, Traced
from seenn.capture import Refused


@imports("Add", "Sum")
def add(call: OnnxCall) -> Result:
    """``a + b + …``, in their order."""
    total, *others = sorted(range(len(call.inputs)), key=lambda i: isinstance(call.value(i), Known))
    result = call.traced(total)
    for i in others:
        value = call.value(i)
        result = (
            call.function(operator.add, result, value)
            if isinstance(value, Traced)
            else _shift(call, result, call.tensor(i))
        )
    return result


@imports("Sub")
def subtract(call: OnnxCall) -> Result:
    """``a - b``."""
    if isinstance(call.value(1), Known):
        return _shift(call, call.traced(0), -call.tensor(1))
    if isinstance(call.value(0), Known):
        return _shift(call, _scale(call, call.traced(1), torch.tensor(-1.0)), call.tensor(0))
    return call.function(operator.sub, call.traced(0), call.traced(1))


@imports("Mul")
def multiply(call: OnnxCall) -> Result:
    """``a · b``."""
    for i in (0, 1):
        if isinstance(call.value(i), Known):
            return _scale(call, call.traced(1 - i), call.tensor(i))
    return call.function(operator.mul, call.traced(0), call.traced(1))


@imports("Div")
def divide(call: OnnxCall) -> Result:
    """``a / b``."""
    if isinstance(call.value(1), Known):
        return _scale(call, call.traced(0), 1 / call.tensor(1))
    left: Any = call.traced(0) if isinstance(call.value(0), Traced) else _argument(call, call.traced(1), call.tensor(0))
    return call.function(operator.truediv, left, call.traced(1))


@imports("Max", "Min")
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


def _scale(call: OnnxCall, x: Traced, factor: Tensor) -> Traced:
    if factor.numel() == 1 and factor.dim() <= len(x.shape) + 1:
        return call.function(operator.mul, x, float(factor))
    if (channels := _per_channel(x, factor)) is not None:
        return _affine(call, x, channels, torch.zeros_like(channels))
    return call.function(operator.mul, x, _argument(call, x, factor))


def _shift(call: OnnxCall, x: Traced, amount: Tensor) -> Traced:
    if (channels := _per_channel(x, amount)) is not None:
        return _affine(call, x, torch.ones_like(channels), channels)
    return call.function(operator.add, x, _argument(call, x, amount))


def _affine(call: OnnxCall, x: Traced, scale: Tensor, shift: Tensor) -> Traced:
    return stored_norm(call, x, scale, shift, torch.zeros_like(scale), torch.ones_like(scale), 0.0)


def _per_channel(x: Traced, constant: Tensor) -> Tensor | None:
    """``constant`` as ``[C]`` where it broadcasts along channels and nothing else."""
    rank = len(x.shape) + 1
    if constant.dim() > rank or not 2 <= rank <= 4:
        return None
    aligned = constant.reshape((1,) * (rank - constant.dim()) + tuple(constant.shape))
    others = (*aligned.shape[:1], *aligned.shape[2:])
    if set(others) != {1} or aligned.shape[1] not in (1, x.shape[0]):
        return None
    return aligned.reshape(-1).expand(x.shape[0]).contiguous()


def _argument(call: OnnxCall, x: Traced, constant: Tensor) -> Traced:
    """``constant`` as a buffer; refuses one with an axis along the batch."""
    rank = len(x.shape) + 1
    if constant.dim() > rank or (constant.dim() == rank and constant.shape[0] != 1):
        raise Refused(
            f"has a constant of shape {list(constant.shape)} for {rank} axes", "expected the same one for every image"
        )
    return call.buffer(constant)
