"""Activations that spike, in every spelling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from seenn.capture.handlers import Call, Made, Refused, Result, any_layout, handles
from seenn.ops import QCFS, Pointwise, ReLU


@handles(nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
@any_layout
def relu(call: Call) -> Result:
    return Made(ReLU(), (call.args[0],))


@handles(nn.ReLU6, F.relu6)
@any_layout
def relu6(call: Call) -> Result:
    return Made(ReLU(ceiling=6.0), (call.args[0],))


@handles(QCFS)
def qcfs(call: Call) -> Result:
    assert isinstance(call.module, QCFS)
    return Made(call.module, (call.args[0],))


@handles(nn.Hardtanh)
@any_layout
def hardtanh(call: Call) -> Result:
    assert isinstance(call.module, nn.Hardtanh)
    return _clip(call, call.module.min_val, call.module.max_val)


@handles(F.hardtanh)
@any_layout
def hardtanh_function(call: Call) -> Result:
    return _clip(call, call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0))


@handles(torch.clamp, torch.clip, "clamp", "clamp_", "clip")
@any_layout
def clamp(call: Call) -> Result:
    return _clip(call, call.argument(1, "min"), call.argument(2, "max"))


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
