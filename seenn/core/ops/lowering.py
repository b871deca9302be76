"""What a network is lowered to, as ops see it: the words in which an op says how fast engines compute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from seenn.core.ops.base import StatefulOp, StatelessOp, Synapse
    from seenn.core.ops.neuron import IntegratingNeuron

Value = TypeVar("Value")


class Lowering(Protocol[Value]):
    """Lowers one node after the other; ``Op.lower`` is given the node's inputs and returns its value.

    A value is a sum that need not have been computed yet, so that thresholds, factors and biases end up in the weights
    that follow them. Whoever implements this decides what it is; ops only hand values on. Axes count the batch.

    Attributes:
        constant: the node is computed once for an input, not in every timestep.
    """

    constant: bool

    def synapse(self, op: Synapse, x: Value) -> Value:
        """``op.response(x, op.weight, op.bias)``; ``op.geometry`` says how the weights meet x."""

    def fire(self, neuron: IntegratingNeuron, x: Value, *, slope: Tensor | None = None) -> Value:
        """Integrate-and-fire with soft reset, in both forms: see ``IFNeuron``; with ``slope`` ``LeakyReLUNeuron``.

        A slope of 1 is the ``Encoder``.
        """

    def add(self, inputs: Sequence[Value]) -> Value:
        """The sum of values that broadcast."""

    def times(self, x: Value, factor: Tensor, shift: Tensor | None = None, axis: int | None = None) -> Value:
        """``factor · x + shift``, both ``[C]`` along ``axis``, or a scalar factor alone."""

    def move(self, op: StatelessOp, x: Value) -> Value:
        """``op`` puts values in other places, any number of times, and zeros in places of its own."""

    def concat(self, op: StatelessOp, inputs: Sequence[Value]) -> Value:
        """``op`` puts its inputs next to each other."""

    def average(self, op: StatelessOp, x: Value, *, across_channels: bool = False) -> Value:
        """``op`` is an average, and ``op.route`` the sum over the same values."""

    def select(self, op: StatelessOp, x: Value) -> Value:
        """``op`` gives back one of several values of the same channel (axis 1), such as the largest."""

    def difference(self, op: StatelessOp, x: Value) -> Value:
        """``select`` on the sum over time: what the step adds to ``op(Σx)``."""

    def function(self, op: StatelessOp, inputs: Sequence[Value], why: str) -> Value:
        """Any other op without memory, computed in float; ``why`` it has no integer form."""

    def call(self, op: StatefulOp, inputs: Sequence[Value], why: str, *, cumulates: StatelessOp | None = None) -> Value:
        """Any other op with memory, as the reference engine runs it; ``why`` it has no integer form.

        ``cumulates`` is f where it emits ``t·f(S_t/t) − (t−1)·f(S_{t−1}/(t−1))``, its state being the sums S_t of its
        inputs, the minuend, and t.
        """
