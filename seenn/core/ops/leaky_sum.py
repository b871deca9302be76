"""A current that decays: the synapse of current-based neurons."""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.core.ops.arguments import Number
from seenn.core.ops.base import State, StatefulOp, register


@register("leaky_sum")
class LeakySum(StatefulOp):
    """``i ← decay·i + x``, and i is its output: what a current-based leaky neuron (CubaLIF) integrates.

    Args:
        decay: share of the current that a step keeps, in [0, 1).
    """

    carried = "i"
    decay: Number = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}")

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("i",)

    def initial_state(self, *inputs: Tensor) -> State:
        return (torch.zeros_like(inputs[0]),)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (current,) = state
        current = self.decay * current + inputs[0]
        return current, (current,)
