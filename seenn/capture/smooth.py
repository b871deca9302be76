"""Smooth activations and their parts: what is kept analog because it is a function of the value itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.core.ops import Multiply, Pointwise, Slice
from seenn.core.ops.pointwise import FUNCTIONS

#: Modules with the settings of the function, by its name in ``Pointwise``.
_MODULES: Mapping[str, type[nn.Module]] = {
    "celu": nn.CELU,
    "elu": nn.ELU,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "logsigmoid": nn.LogSigmoid,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}
_NAMES = (*_MODULES, "cos", "erf", "exp", "log", "reciprocal", "rsqrt", "sin", "sqrt")
_ALIASES = {"logsigmoid": "log_sigmoid"}


def _pointwise(name: str) -> Callable[[Call], Result]:
    """The settings are the arguments after the first, in this order."""
    defaults = FUNCTIONS[name][1]

    def handler(call: Call) -> Result:
        settings = {key: float(call.argument(i, key, value)) for i, (key, value) in enumerate(defaults.items(), 1)}
        return call.of(Pointwise(function=name, settings=settings))

    return handler


for _name in _NAMES:
    handles(_ALIASES.get(_name, _name), _MODULES.get(_name), any_layout=True)(_pointwise(_name))


@handles(nn.GELU, "gelu", any_layout=True)
def gelu(call: Call) -> Result:
    approximate = call.argument(1, "approximate", "none")
    return call.of(Pointwise(function="gelu" if approximate == "none" else "gelu_tanh"))


@handles("pow", "square", any_layout=True)
def power(call: Call) -> Result:
    exponent = call.argument(1, "exponent", 2)
    if (known := call.known(exponent)) is not None and known.numel() == 1:
        exponent = float(known.detach())
    if not isinstance(exponent, int | float) or not isinstance(call.args[0], torch.fx.Node):
        raise Refused("its exponent is an activation", "raise to a constant power")
    if exponent == 1:
        return Alias(call.args[0])
    return call.of(Pointwise(function="pow", settings={"exponent": float(exponent)}))


@handles(nn.GLU, "glu", any_layout=True)
def glu(call: Call) -> Result:
    """The first half of the channels times the sigmoid of the second."""
    dim = call.argument(1, "dim", -1)
    axis, half = call.axis(dim), call.shape()[dim] // 2
    value, gate = (call.of(Slice(axis=axis, start=start, stop=start + half)) for start in (0, half))
    return Made(Multiply(), (value, Made(Pointwise(function="sigmoid"), (gate,))))
