"""The neuron for activations that are quantised already: it settles on exactly their value.

With S_t its net count by step t, s the activation's step size and θ = s·T the worth of a spike::

    v ← v + x
    n = clip(⌊v / θ⌋, −Γ, Γ), and no further than ⌊low·t·s/θ + ½⌋ ≤ S_t ≤ ⌊high·t·s/θ + ½⌋
    v ← v − n·θ        S ← S + n

From v = θ/2, S_T = clip(⌊Σx/θ + ½⌋, low, high), whatever order the currents came in, as long as Γ spikes a step
suffice. The mean output at T is then that of the quantised ANN (ST-BIF rule, You et al. 2024). The limits grow with
time: at every t they are what a current at the activation's own limit gives, so that the run may be longer than T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, field
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.activation import Activation, quantiser
from seenn.core.ops.arguments import MOST_LEVELS, Threshold, integer, per_channel
from seenn.core.ops.base import State, register
from seenn.core.ops.lowering import Lowering, Value
from seenn.core.ops.membrane import soft_reset
from seenn.core.ops.neuron import IntegratingNeuron
from seenn.surrogate import fire

_HALF = 0.5 + 1e-3  # where a limit is half a spike, rounding of s/θ must not decide


@register("quantiser_neuron")
class QuantiserNeuron(IntegratingNeuron):
    """Integrate-and-fire neuron with limits, which stands for a ``Quantiser`` (module docstring).

    Args:
        v_threshold, v_init, bias, max_spikes, axis: as of every ``IntegratingNeuron``; θ is of either sign's spikes.
        scale, low, high: s and the limits of the activation.
    """

    signed = True
    settles = True
    surrogate: None = field(default=None, init=False)  # one triangle at every level
    _: KW_ONLY
    scale: Threshold
    low: Annotated[int, partial(integer, low=-MOST_LEVELS, high=0)]
    high: Annotated[int, partial(integer, low=0, high=MOST_LEVELS)]

    @property
    def title(self) -> str:
        return f"quantiser (up to {self.max_spikes} spikes, {self.low} to {self.high} in all)"

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("v", "net_count", "t")

    def initial_state(self, *inputs: Tensor) -> State:
        (v,) = super().initial_state(*inputs)
        return v, torch.zeros_like(v), v.new_zeros(v.shape[0])

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v, net_count, t = state
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        x, t = self.current(x, self.axis), t + 1
        v = v.add_(x) if in_place else v + x
        wanted = net_count + fire(v, v_threshold, v.new_full((), self.max_spikes), self.max_spikes)
        share = t.view(-1, *[1] * (v.dim() - 1)) * (per_channel(self.scale, v, self.axis) / v_threshold)
        low, high = ((share * limit + _HALF).floor() for limit in (self.low, self.high))
        after = wanted.clamp(low, high)
        count = after - net_count
        return count, (soft_reset(v, count, v_threshold, in_place=in_place), after.detach(), t)

    def activation(self) -> Activation:
        return quantiser(self.scale.detach(), self.low, self.high, axis=self.axis)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.call(self, inputs, "the limits of its count grow with time")
