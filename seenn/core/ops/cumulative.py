"""What acts over time though it is neither affine nor a neuron: functions of running means, and products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seenn.core.ops.base import State, StatefulOp, StatelessOp, Traffic, make_op, op_class, register
from seenn.core.ops.lowering import Lowering, Value


class OverTime(StatefulOp):
    """A stateless op ``f`` with the memory that it needs over time; its outputs add up to ``t·f(mean inputs)``.

    Those are analog values. While its inputs never change, neither does its output.
    """

    steady = True
    attributes = ("function",)

    def __init__(self, op: StatelessOp | None = None, *, function: dict[str, Any] | None = None) -> None:
        self.op = _from_description(function) if op is None else op
        if self.op.tensor_names:
            raise ValueError(f"{type(self).__name__} cannot wrap {self.op.kind!r}: it has weights")
        self.joins, self.arity = self.op.joins, self.op.arity

    @property
    def function(self) -> dict[str, Any]:
        """The wrapped op as JSON."""
        return {"op": self.op.kind, **self.op.config()}

    def initial_state(self, *inputs: Tensor) -> State:
        t = inputs[0].new_zeros(inputs[0].shape[0])
        return (*(torch.zeros_like(x) for x in inputs), torch.zeros_like(self.op(*inputs)), t)

    def constant(self, *inputs: Tensor) -> Tensor:
        """``f(inputs)``."""
        return self.op.constant(*inputs)

    def shaped(self, *inputs: Tensor) -> Tensor:
        return self.op.shaped(*inputs)

    @property
    def analog(self) -> StatelessOp:
        return self.op

    def macs(self, output: Sequence[int], *inputs: Sequence[int]) -> int:
        return self.op.macs(output, *inputs)

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return self.op.channel_axis(axis, before, after)


@register("cumulative_difference")
class CumulativeDifference(OverTime):
    """Applies ``f`` to the running mean of its inputs and emits the difference to the step before.

    With S_t the sum of the inputs so far, step t emits ``t·f(S_t/t) − (t−1)·f(S_{t−1}/(t−1))``. (The maximum of
    instantaneous currents, for example, would be biased upwards.) Ops over several inputs act on all their means at
    once; a chain of cumulative differences is that of the chain, since the sums which one emits are those that the
    next one keeps.

    State: the sums S_t, one an input; the last ``t·f(S_t/t)``; and t itself, ``[B]``.
    """

    __init__ = OverTime.__init__  # or dataclass would make one

    @property
    def title(self) -> str:
        return f"cumulative {self.op.title}"

    def state_names(self, arity: int) -> tuple[str, ...]:
        return (*(f"sum{i}" for i in range(arity)), "value", "t")

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        *sums, value, t = state
        t = t + 1
        sums = [s + x for s, x in zip(sums, inputs, strict=True)]
        now = self._total(sums, t)
        return now - value, (*sums, now, t)

    def counted_step(
        self, inputs: tuple[Tensor, ...], state: State, *, in_place: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        if not in_place:
            return super().counted_step(inputs, state)
        *sums, value, t = state
        t.add_(1)
        for s, x in zip(sums, inputs, strict=True):
            s.add_(x)
        now = self._total(sums, t, in_place=True)
        return torch.sub(now, value, out=value), None, (*sums, now, t)

    def _total(self, sums: Sequence[Tensor], t: Tensor, *, in_place: bool = False) -> Tensor:
        """``t·f(S_t/t)``; ``in_place`` in what f returns. f may act on sums where it has a degree."""
        degree = self.op.degree
        value: Tensor = self.op(*(sums if degree is not None else (s / _rows(t, s) for s in sums)))
        if degree == 1:
            return value
        scale = torch.mul if degree is None else torch.div
        return scale(value, _rows(t, value), out=value if in_place else None)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        if lowering.constant:
            return self.op.lower(lowering, inputs)
        if self.op.selects:
            return lowering.difference(self.op, inputs[0])
        return lowering.call(self, inputs, f"{self.op.kind} of a running mean is not an integer", cumulates=self.op)


@register("incremental_product")
class IncrementalProduct(OverTime):
    """The product of two values that come as spikes, exactly, by accumulating stored numbers wherever one arrives.

    With x and y the step's inputs, A and B the sums of those before::

        P ← P + x·y + x·B + A·y        A ← A + x        B ← B + y

    so that P = A·B, and step t emits ``P_t/t − P_{t−1}/(t−1)``, whose sum is ``t · mean x · mean y``. x·y is spikes
    times spikes; of the other two, each spike adds a stored number to all that it is multiplied with (as in
    arXiv:2502.21193).

    State: A, B, P, and t, ``[B]``.
    """

    def __init__(self, op: StatelessOp | None = None, *, function: dict[str, Any] | None = None) -> None:
        super().__init__(op, function=function)
        if not self.op.bilinear:
            raise ValueError(f"{self.op.kind!r} is no product of two values")

    @property
    def title(self) -> str:
        return f"incremental {self.op.title}"

    def fed_by_spikes(self, inputs: Sequence[Traffic]) -> bool:
        return self.op.fed_by_spikes(inputs)

    def route(self, *events: Tensor) -> Tensor:
        """See ``StatelessOp.route``."""
        return self.op.route(*events)

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("sum0", "sum1", "product", "t")

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (x, y), (a, b, product, t) = inputs, state
        b = b + y
        after = product + self.op(x, b) + self.op(a, y)
        output = after / _rows(t + 1, after) - product / _rows(t.clamp(min=1), product)
        return output, (a + x, b, after, t + 1)

    def unroll(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        if len({len(x) for x in inputs}) != 1:
            steps = " and ".join(str(len(x)) for x in inputs)
            raise ValueError(f"the operands of a product have no common time: {steps} steps")
        return super().unroll(inputs, state)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        if lowering.constant:
            return self.op.lower(lowering, inputs)
        # Where sums are at hand, the product of both is what the increments add up to, for half of the arithmetic.
        why = f"{self.op.kind} over time is divided by t, which is not an integer"
        return lowering.call(CumulativeDifference(self.op), inputs, why, cumulates=self.op)


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
