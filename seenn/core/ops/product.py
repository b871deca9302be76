"""Ops over two activations: gates, quotients, matrix products. Bilinear, hence not linear over time."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.base import StatelessOp, register

_EQUATION = re.compile("[a-zA-Z]{1,9},[a-zA-Z]{1,9}->[a-zA-Z]{1,9}")


class _Elementwise(StatelessOp):
    island = True
    arity = 2

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """One an output element."""
        return math.prod(output)


@register("multiply")
class Multiply(_Elementwise):
    """``a · b`` element by element, broadcasting: a gate."""

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a * b


@register("divide")
class Divide(_Elementwise):
    """``a / b`` element by element, broadcasting."""

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
class MatMul(StatelessOp):
    """``a @ b`` over the last two axes, ``[..., n, m], [..., m, p] -> [..., n, p]``: what attention is made of."""

    island = True
    arity = 2

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
class Einsum(StatelessOp):
    """A contraction of two activations in Einstein's notation, ``bnd,bmd->bnm``; the first letter is the batch."""

    island = True
    arity = 2
    equation: Annotated[str, _contraction]

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.einsum(self.equation, *inputs)

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """One for every combination of indices."""
        parts = self.equation.partition("->")[0].split(",")
        sizes = {letter: n for part, shape in zip(parts, inputs, strict=True)
                 for letter, n in zip(part[1:], shape, strict=True)}  # fmt: skip
        return math.prod(sizes.values())
