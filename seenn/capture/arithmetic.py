"""Sums, concatenation, constant factors, and activations in every spelling."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.ops import QCFS, Add, Concat, ReLU, Scale


@handles(operator.add, operator.iadd, torch.add, "add", "add_")
def add(call: Call) -> Result:
    left, right = call.args[0], call.argument(1, "other")
    alpha = call.kwargs.get("alpha", 1)
    if isinstance(right, fx.Node) and type(left) is int and left == 0:
        return Alias(right)  # sum([...]) starts at 0
    if not (isinstance(left, fx.Node) and isinstance(right, fx.Node)):
        raise Refused("adds a constant", "move the constant into the bias of the layer before")
    if alpha != 1:
        raise Refused(f"adds with alpha={alpha}", "multiply before adding")
    return Made(Add(), (left, right))


@handles(operator.mul, operator.imul, torch.mul, "mul", "mul_")
def multiply(call: Call) -> Result:
    left, right = call.args[0], call.argument(1, "other")
    if isinstance(left, int | float):
        left, right = right, left
    if isinstance(right, int | float):
        return Made(Scale(factor=float(right)), (left,))
    raise Refused("multiplies two activations (a gate)", "a gate is not linear over time")


@handles(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def divide(call: Call) -> Result:
    divisor = call.argument(1, "other")
    if not isinstance(divisor, int | float) or divisor == 0 or call.kwargs.get("rounding_mode"):
        raise Refused("divides by an activation or by zero, or rounds", "only constant factors are linear over time")
    return Made(Scale(factor=1.0 / divisor), (call.args[0],))


@handles(torch.cat, torch.concat, torch.concatenate)
def concat(call: Call) -> Result:
    parts = call.args[0]
    if isinstance(parts, fx.Node):
        raise Refused("joins a tuple as it is", "name its parts: a, b = x.chunk(2, 1)")
    axis = call.argument(1, "dim", 0) % len(call.shape(parts[0]))
    if axis == 0:
        raise Refused("concatenates along the batch", "keep images independent")
    return Made(Concat(axis=axis), tuple(parts))


@handles(nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
def relu(call: Call) -> Result:
    return Made(ReLU(), (call.args[0],))


@handles(QCFS)
def qcfs(call: Call) -> Result:
    assert isinstance(call.module, QCFS)
    return Made(call.module, (call.args[0],))


@handles(nn.ReLU6, F.relu6)
def relu6(call: Call) -> Result:
    return Made(ReLU(ceiling=6.0), (call.args[0],))


@handles(nn.Hardtanh)
def hardtanh(call: Call) -> Result:
    assert isinstance(call.module, nn.Hardtanh)
    return _clip(call, call.module.min_val, call.module.max_val)


@handles(F.hardtanh)
def hardtanh_function(call: Call) -> Result:
    return _clip(call, call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0))


@handles(torch.clamp, "clamp", "clamp_")
def clamp(call: Call) -> Result:
    return _clip(call, call.argument(1, "min"), call.argument(2, "max"))


def _clip(call: Call, low: Any, high: Any) -> Result:
    if low != 0 or isinstance(high, fx.Node) or (high is not None and high <= 0):
        raise Refused(f"clips to [{low}, {high}]", "only activations that start at 0 become spikes")
    return Made(ReLU(ceiling=None if high is None else float(high)), (call.args[0],))
