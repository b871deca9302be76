"""Functions of one value at a time that are neither affine nor spiking: smooth activations and their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import number
from seenn.core.ops.base import StatelessOp, register
from seenn.errors import did_you_mean


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


#: What may be applied, by name, and the numbers that each takes with their defaults.
FUNCTIONS: Mapping[str, tuple[Callable[..., Tensor], Mapping[str, float]]] = MappingProxyType(
    {
        "abs": (torch.abs, {}),
        "celu": (F.celu, {"alpha": 1.0}),
        "clamp_max": (torch.clamp_max, {"max": 1.0}),
        "clamp_min": (torch.clamp_min, {"min": 0.0}),
        "cos": (torch.cos, {}),
        "elu": (F.elu, {"alpha": 1.0}),
        "erf": (torch.erf, {}),
        "exp": (torch.exp, {}),
        "gelu": (F.gelu, {}),
        "gelu_tanh": (_gelu_tanh, {}),
        "hardsigmoid": (F.hardsigmoid, {}),
        "hardswish": (F.hardswish, {}),
        "hardtanh": (F.hardtanh, {"min_val": -1.0, "max_val": 1.0}),
        "log": (torch.log, {}),
        "logsigmoid": (F.logsigmoid, {}),
        "mish": (F.mish, {}),
        "pow": (torch.pow, {"exponent": 2.0}),
        "quick_gelu": (_quick_gelu, {}),
        "reciprocal": (torch.reciprocal, {}),
        "rsqrt": (torch.rsqrt, {}),
        "selu": (F.selu, {}),
        "sigmoid": (torch.sigmoid, {}),
        "silu": (F.silu, {}),
        "sin": (torch.sin, {}),
        "softplus": (F.softplus, {"beta": 1.0, "threshold": 20.0}),
        "softsign": (F.softsign, {}),
        "sqrt": (torch.sqrt, {}),
        "tanh": (torch.tanh, {}),
    }
)


def _known(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in FUNCTIONS:
        raise ValueError(f"unknown {name} {value!r}.{did_you_mean(str(value), FUNCTIONS)}")
    return value


def _settings(name: str, value: object) -> Mapping[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be numbers by name, got {value!r}")
    return {key: number(key, item) for key, item in value.items()}


@register("pointwise")
class Pointwise(StatelessOp):
    """``y = function(x)`` for one of ``FUNCTIONS``; ``settings`` are its numbers, defaults where left out."""

    island = True
    function: Annotated[str, _known]
    settings: Annotated[Mapping[str, float], _settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._function, defaults = FUNCTIONS[self.function]
        if unknown := sorted(set(self.settings) - set(defaults)):
            listed = ", ".join(map(repr, unknown))
            raise ValueError(f"{self.function} has no setting {listed}; it takes {sorted(defaults)}")
        self.settings = {**defaults, **self.settings}

    @property
    def title(self) -> str:
        return self.function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(inputs[0], **self.settings)
