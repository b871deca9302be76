"""Activations that spike, in every spelling."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from seenn.capture.handlers import Call, Made, Refused, Result, handles
from seenn.core.ops import QCFS, LeakyReLU, Pointwise, ReLU

aten = torch.ops.aten


@handles(nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_", any_layout=True)
def relu(call: Call) -> Result:
    return Made(ReLU(), (call.args[0],))


@handles(nn.ReLU6, F.relu6, aten.relu6, aten.relu6_, any_layout=True)
def relu6(call: Call) -> Result:
    return Made(ReLU(ceiling=6.0), (call.args[0],))


@handles(QCFS)
def qcfs(call: Call) -> Result:
    assert isinstance(call.module, QCFS)
    return Made(call.module, (call.args[0],))


@handles(nn.Hardtanh, F.hardtanh, F.hardtanh_, aten.hardtanh, aten.hardtanh_, any_layout=True)
def hardtanh(call: Call) -> Result:
    return _clip(call, call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0))


@handles(torch.clamp, torch.clip, "clamp", "clamp_", "clip", "clip_", any_layout=True)
def clamp(call: Call) -> Result:
    return _clip(call, call.argument(1, "min"), call.argument(2, "max"))


@handles(torch.clamp_min, "clamp_min", "clamp_min_", any_layout=True)
def clamp_min(call: Call) -> Result:
    return _clip(call, call.argument(1, "min"), None)


@handles(nn.Threshold, F.threshold, torch.threshold_, aten.threshold, aten.threshold_, any_layout=True)
def threshold(call: Call) -> Result:
    threshold, value = call.argument(1, "threshold"), call.argument(2, "value")
    if threshold != 0 or value != 0:
        raise Refused(f"jumps to {value} at {threshold}", "only a threshold of 0 with the value 0 is a ReLU")
    return Made(ReLU(), (call.args[0],))


@handles(nn.LeakyReLU, F.leaky_relu, F.leaky_relu_, aten.leaky_relu, aten.leaky_relu_, any_layout=True)
def leaky_relu(call: Call) -> Result:
    return _leaky(call, call.argument(1, "negative_slope", 0.01))


@handles(nn.RReLU, any_layout=True)
def random_leaky_relu(call: Call) -> Result:
    """Outside training its slope is the mean of the range."""
    assert isinstance(call.module, nn.RReLU)
    if call.module.training:
        raise Refused("draws its slopes at random in training mode", "call model.eval() first")
    return _leaky(call, (call.module.lower + call.module.upper) / 2)


@handles(torch.abs, operator.abs, "abs", "abs_", any_layout=True)
def absolute(call: Call) -> Result:
    """The leaky ReLU with the slope −1."""
    return _leaky(call, -1.0)


@handles(nn.PReLU, F.prelu, torch.prelu, "prelu")
def prelu(call: Call) -> Result:
    slope = call.constant(call.argument(1, "weight"))
    return Made(LeakyReLU(slope.view(()) if slope.numel() == 1 else slope), (call.args[0],))


def _leaky(call: Call, slope: float) -> Result:
    # In double precision, which a tensor without axes does not pass on to what it meets.
    return Made(LeakyReLU(torch.tensor(float(slope), dtype=torch.float64)), (call.args[0],))


def _clip(call: Call, low: Any, high: Any) -> Result:
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        raise Refused(f"clips to [{low}, {high}]", "clip to constant numbers")
    if low == 0 and (high is None or high > 0):
        return Made(ReLU(ceiling=None if high is None else float(high)), (call.args[0],))
    if low is None:
        op = Pointwise(function="clamp_max", settings={"max": high})
    elif high is None:
        op = Pointwise(function="clamp_min", settings={"min": low})
    else:
        op = Pointwise(function="hardtanh", settings={"min_val": low, "max_val": high})
    return Made(op, (call.args[0],))
