"""Activations of the analog network: the call sites that conversion turns into neurons."""

from __future__ import annotations

from torch import Tensor

from seenn.ops.arguments import number
from seenn.ops.base import StatelessOp, register


@register("relu")
class ReLU(StatelessOp):
    """``clip(x, 0, ceiling)``; ``ceiling`` None means none, 6 is ReLU6."""

    attributes = ("ceiling",)

    def __init__(self, *, ceiling: float | None = None) -> None:
        super().__init__()
        self.ceiling = None if ceiling is None else number("ceiling", ceiling, above=0.0)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu() if self.ceiling is None else inputs[0].clamp(0.0, self.ceiling)
