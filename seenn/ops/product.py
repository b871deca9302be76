"""Ops over two activations: gates, quotients, matrix products. Bilinear, hence not linear over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.ops.base import StatelessOp, register


@register("multiply")
class Multiply(StatelessOp):
    """``a · b`` element by element, broadcasting: a gate."""

    island = True
    arity = 2

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a * b

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """One an output element."""
        return math.prod(output)


@register("divide")
class Divide(StatelessOp):
    """``a / b`` element by element, broadcasting."""

    island = True
    arity = 2

    def forward(self, *inputs: Tensor) -> Tensor:
        a, b = inputs
        return a / b

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        """One an output element."""
        return math.prod(output)


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
