"""Activations that spike, in every spelling."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles, makes
from seenn.core.ops import ElementwiseAffine, LeakyReLU, Pointwise, Quantiser, ReLU

makes(ReLU, nn.ReLU, "relu")
makes(lambda: ReLU(ceiling=6.0), nn.ReLU6, "relu6")
# Slopes in double precision, which a tensor without axes does not pass on to what it meets.
makes(lambda: LeakyReLU(torch.tensor(-1.0, dtype=torch.float64)), "abs")


@handles(Quantiser)
def quantiser(call: Call) -> Result:
    assert isinstance(call.module, Quantiser)
    return call.of(call.module)


@handles(nn.Hardtanh, "hardtanh", any_layout=True)
def hardtanh(call: Call) -> Result:
    return _clip(call, call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0))


@handles("clamp", "clip", any_layout=True)
def clamp(call: Call) -> Result:
    return _clip(call, call.argument(1, "min"), call.argument(2, "max"))


@handles("clamp_min", any_layout=True)
def clamp_min(call: Call) -> Result:
    return _clip(call, call.argument(1, "min"), None)


@handles("clamp_max", any_layout=True)
def clamp_max(call: Call) -> Result:
    return _clip(call, None, call.argument(1, "max"))


@handles(nn.Threshold, F.threshold, "threshold", any_layout=True)
def threshold(call: Call) -> Result:
    threshold, value = call.argument(1, "threshold"), call.argument(2, "value")
    if threshold != 0 or value != 0:
        raise Refused(f"jumps to {value} at {threshold}", "use nn.ReLU, or a threshold of 0 with the value 0")
    return call.of(ReLU())


@handles(nn.LeakyReLU, "leaky_relu", any_layout=True)
def leaky_relu(call: Call) -> Result:
    return _leaky(call, call.argument(1, "negative_slope", 0.01))


@handles(nn.RReLU, "rrelu", any_layout=True)
def random_leaky_relu(call: Call) -> Result:
    """Outside training its slope is the mean of the range."""
    module = call.module
    if isinstance(module, nn.RReLU):
        low, high, training = module.lower, module.upper, module.training
    else:
        low, high = call.argument(1, "lower", 1 / 8), call.argument(2, "upper", 1 / 3)
        training = call.argument(3, "training", False)
    if training:
        raise Refused("draws its slopes at random in training mode", "call model.eval() first")
    return _leaky(call, (low + high) / 2)


@handles(nn.PReLU, "prelu")
def prelu(call: Call) -> Result:
    slope = call.constant(call.argument(1, "weight"))
    return call.of(LeakyReLU(slope.view(()) if slope.numel() == 1 else slope))


def _leaky(call: Call, slope: float) -> Result:
    return call.of(LeakyReLU(torch.tensor(float(slope), dtype=torch.float64)))


def _clip(call: Call, low: Any, high: Any) -> Result:
    """Between numbers; from 0 also to one ceiling a channel, of which each value is then a share."""
    low, high = _bound(call, low), _bound(call, high)
    low, high = None if _is(low, -math.inf) else low, None if _is(high, math.inf) else high
    if isinstance(high, Tensor) and low == 0 and bool((high > 0).all()):
        share = Made(ReLU(ceiling=1.0), (call.of(ElementwiseAffine(1 / high)),))
        return Made(ElementwiseAffine(high), (share,))
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise Refused("clips to bounds that differ", "clip from 0 to one bound a channel, or to two numbers")
    if low is None and high is None:
        return Alias(call.args[0])
    if low == 0 and (high is None or high > 0):
        return call.of(ReLU(ceiling=high))
    if low is None:
        op = Pointwise(function="clamp_max", settings={"max": high})
    elif high is None:
        op = Pointwise(function="clamp_min", settings={"min": low})
    else:
        op = Pointwise(function="hardtanh", settings={"min_val": low, "max_val": high})
    return call.of(op)


def _is(bound: float | Tensor | None, value: float) -> bool:
    return isinstance(bound, float) and bound == value


def _bound(call: Call, value: Any) -> float | Tensor | None:
    """A constant bound: a number, or one a channel."""
    if not isinstance(value, fx.Node):
        return None if value is None else float(value)
    if (found := call.known(value)) is None:
        raise Refused("clips to a bound that depends on the image", "clip to constant numbers")
    return float(found.max()) if bool((found == found.max()).all()) else call.meeting(found)
