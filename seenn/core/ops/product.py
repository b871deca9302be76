"""Ops over two activations: gates, matrix products, quotients, maxima. None of them is linear over time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.base import StatelessOp, Traffic, register

_EQUATION = re.compile("[a-zA-Z]{1,9},[a-zA-Z]{1,9}->[a-zA-Z]{1,9}")


class Product(StatelessOp):
    """Linear in each of its two inputs: linear where one is constant, and over time an ``IncrementalProduct``."""

    island = True
    bilinear = True
    arity = 2

    def fed_by_spikes(self, inputs: Sequence[Traffic]) -> bool:
        return "spikes" in inputs and "analog" not in inputs

    def route(self, *events: Tensor) -> Tensor:
        """An event of either input reaches all that it is multiplied with."""
        a, b = events
        return self.forward(a, torch.ones_like(b)) + self.forward(torch.ones_like(a), b)


@register("multiply")
class Multiply(Product):
    """``a · b`` element by element, broadcasting: a gate."""

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a * b

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """One an output element."""
        return math.prod(output)


@register("divide")
class Divide(StatelessOp):
    """``a / b`` element by element, broadcasting. A division is no multiply-accumulate."""

    island = True
    arity = 2

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a / b


@register("maximum")
class Maximum(StatelessOp):
    """The larger of ``a`` and ``b``, element by element; the smaller one is ``−max(−a, −b)``."""

    island = True
    homogeneous = True
    arity = 2

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return torch.maximum(a, b)


@register("matmul")
class MatMul(Product):
    """``a @ b`` over the last two axes, ``[..., n, m], [..., m, p] -> [..., n, p]``: what attention is made of."""

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a @ b

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """Output elements × m."""
        return math.prod(output) * inputs[0][-1]


def _contraction(name: str, value: object) -> str:
    if not isinstance(value, str) or not _EQUATION.fullmatch(value):
        raise ValueError(f"{name} must be of the form bnd,bmd->bnm, got {value!r}")
    if len({part[0] for part in re.split(",|->", value)}) != 1:
        raise ValueError(f"all parts of the {name} must start with the batch's letter, got {value!r}")
    return value


@register("einsum")
class Einsum(Product):
    """A contraction of two activations in Einstein's notation, ``bnd,bmd->bnm``; the first letter is the batch."""

    equation: Annotated[str, _contraction]

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.einsum(self.equation, *inputs)

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """One for every combination of indices."""
        parts = self.equation.partition("->")[0].split(",")
        sizes = {letter: n for part, shape in zip(parts, inputs, strict=True)
                 for letter, n in zip(part[1:], shape, strict=True)}  # fmt: skip
        return math.prod(sizes.values())
