"""One mechanism for everything over time that is neither affine nor a neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seenn.core.ops.base import State, StatefulOp, StatelessOp, make_op, op_class, register
from seenn.core.ops.lowering import Lowering, Value


@register("cumulative_difference")
class CumulativeDifference(StatefulOp):
    """Applies ``f`` to the running mean of its inputs and emits the difference to the step before.

    With S_t the sum of the inputs so far, step t emits ``t·f(S_t/t) − (t−1)·f(S_{t−1}/(t−1))``, so that the
    outputs always add up to ``t·f(mean input)``. (The maximum of instantaneous currents, for example, would
    be biased upwards.) Its outputs are analog values, and every report counts them as such. Ops over several
    inputs (products, attention) act on all their means at once; a chain of cumulative differences is that of the
    chain, since the sums which one emits are those that the next one keeps.

    State: the sums S_t, one an input; the last ``t·f(S_t/t)``; and t itself, ``[B]``.
    """

    steady = True
    attributes = ("function",)

    def __init__(self, op: StatelessOp | None = None, *, function: dict[str, Any] | None = None) -> None:
        self.op = _from_description(function) if op is None else op
        if self.op.tensor_names:
            raise ValueError(f"CumulativeDifference cannot wrap {self.op.kind!r}: it has weights")
        self.joins, self.arity = self.op.joins, self.op.arity

    @property
    def title(self) -> str:
        return f"cumulative {self.op.title}"

    @property
    def function(self) -> dict[str, Any]:
        """The wrapped op as JSON."""
        return {"op": self.op.kind, **self.op.config()}

    def state_names(self, arity: int) -> tuple[str, ...]:
        return (*(f"sum{i}" for i in range(arity)), "value", "t")

    def initial_state(self, *inputs: Tensor) -> State:
        t = inputs[0].new_zeros(inputs[0].shape[0])
        return (*(torch.zeros_like(x) for x in inputs), torch.zeros_like(self.op(*inputs)), t)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        *sums, value, t = state
        t = t + 1
        sums = [s + x for s, x in zip(sums, inputs, strict=True)]
        if self.op.homogeneous:
            now = self.op(*sums)
        else:
            now = _rows(t, value) * self.op(*(s / _rows(t, s) for s in sums))
        return now - value, (*sums, now, t)

    def constant(self, *inputs: Tensor) -> Tensor:
        """``f(inputs)``."""
        return self.op.constant(*inputs)

    @property
    def analog(self) -> StatelessOp:
        return self.op

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        return self.op.macs(output, *inputs)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return self.op.channel_axis(axis, before, after)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        if lowering.constant:
            return self.op.lower(lowering, inputs)
        if self.op.selects:
            return lowering.difference(self.op, inputs[0])
        return lowering.call(self, inputs, f"{self.op.kind} of a running mean is not an integer")


def _rows(t: Tensor, like: Tensor) -> Tensor:
    return t.view(-1, *[1] * (like.dim() - 1))


def _from_description(function: dict[str, Any] | None) -> StatelessOp:
    if not isinstance(function, dict) or not isinstance(function.get("op"), str):
        raise ValueError(f"function must name an op, got {function!r}")
    if not issubclass(op_class(function["op"]), StatelessOp):
        raise ValueError(f"function must be a stateless op, got {function['op']!r}")
    op = make_op(function["op"], {key: value for key, value in function.items() if key != "op"}, {})
    assert isinstance(op, StatelessOp)
    return op
