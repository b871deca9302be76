"""Smooth activations and their parts: what is kept analog because it is a function of the value itself."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.core.ops import Pointwise

#: By the function's name in ``Pointwise``: every spelling of it without settings.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "cos": (torch.cos, "cos"),
    "erf": (torch.erf, "erf"),
    "exp": (torch.exp, "exp"),
    "hardsigmoid": (nn.Hardsigmoid, F.hardsigmoid),
    "hardswish": (nn.Hardswish, F.hardswish),
    "log": (torch.log, "log"),
    "logsigmoid": (nn.LogSigmoid, F.logsigmoid),
    "mish": (nn.Mish, F.mish),
    "reciprocal": (torch.reciprocal, "reciprocal"),
    "rsqrt": (torch.rsqrt, "rsqrt"),
    "selu": (nn.SELU, F.selu, torch.selu, torch.selu_),
    "sigmoid": (nn.Sigmoid, F.sigmoid, torch.sigmoid, torch.sigmoid_, "sigmoid", "sigmoid_"),
    "silu": (nn.SiLU, F.silu),
    "sin": (torch.sin, "sin"),
    "softsign": (nn.Softsign, F.softsign),
    "sqrt": (torch.sqrt, "sqrt"),
    "tanh": (nn.Tanh, F.tanh, torch.tanh, torch.tanh_, "tanh", "tanh_"),
}
#: And with settings: where each is as a module's attribute and as a function's argument.
_SET: Mapping[str, tuple[tuple[Any, ...], tuple[tuple[str, int, float], ...]]] = {
    "celu": ((nn.CELU, F.celu, torch.celu), (("alpha", 1, 1.0),)),
    "elu": ((nn.ELU, F.elu), (("alpha", 1, 1.0),)),
    "softplus": ((nn.Softplus, F.softplus), (("beta", 1, 1.0), ("threshold", 2, 20.0))),
}


def _pointwise(name: str, settings: Sequence[tuple[str, int, float]]) -> Callable[[Call], Result]:
    def handler(call: Call) -> Result:
        found = {key: float(call.argument(position, key, default)) for key, position, default in settings}
        return Made(Pointwise(function=name, settings=found), (call.args[0],))

    return handler


for _name, _targets in _PLAIN.items():
    handles(*_targets, any_layout=True)(_pointwise(_name, ()))
for _name, (_targets, _settings) in _SET.items():
    handles(*_targets, any_layout=True)(_pointwise(_name, _settings))


@handles(nn.GELU, F.gelu, any_layout=True)
def gelu(call: Call) -> Result:
    approximate = call.argument(1, "approximate", "none")
    return Made(Pointwise(function="gelu" if approximate == "none" else "gelu_tanh"), (call.args[0],))


@handles(operator.pow, torch.pow, "pow", torch.square, "square", any_layout=True)
def power(call: Call) -> Result:
    exponent = call.argument(1, "exponent", 2)
    if not isinstance(exponent, int | float) or not isinstance(call.args[0], torch.fx.Node):
        raise Refused("its exponent is an activation", "raise to a constant power")
    if exponent == 1:
        return Alias(call.args[0])
    return Made(Pointwise(function="pow", settings={"exponent": float(exponent)}), (call.args[0],))
