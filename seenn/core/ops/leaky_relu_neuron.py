"""The neuron for activations with values on both sides of zero: LeakyReLU and PReLU.

It adds up its current in c, and charges its membrane with what that adds to the activation of the sum,
f(c) = c where c > 0, else ``slope``·c::

    v ← v + f(c + x) − f(c)        c ← c + x
    n = clip(⌊v / θ⌋, −Γ, Γ)
    v ← v − n·θ

f(T·x) = T·f(x), so over T steps of constant current x with |f(x)| ≤ Γ·θ the mean output is f(x) rounded to
steps of θ/T, as exactly as an ``IFNeuron``'s is the ReLU: spikes below zero carry the leak. In general the outputs
add up to f(Σx) but for what the membrane holds, in [−θ/2, θ/2) of it once the spikes of a step suffice: what
fires too early is taken back. With slope 0 it fires as a signed ``IFNeuron`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

import torch
from torch import Tensor

from seenn.core.ops.activation import Activation, LeakyReLU, leaky_relu
from seenn.core.ops.arguments import PerChannel, default, per_channel
from seenn.core.ops.base import State, register
from seenn.core.ops.lowering import Lowering, Value
from seenn.core.ops.membrane import soft_reset
from seenn.core.ops.neuron import IntegratingNeuron
from seenn.surrogate import fire


def leaky_relu_if_step(
    v: Tensor,
    charge: Tensor,
    current: Tensor,
    v_threshold: Tensor,
    slope: Tensor,
    max_spikes: int = 1,
    *,
    in_place: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the rule above; ``(spike_count, v, charge)``, all ``[B, C, ...]``, ``slope`` broadcastable."""
    before = leaky_relu(charge, slope)
    charge = charge.add_(current) if in_place else charge + current
    gained = leaky_relu(charge, slope) - before
    v = v.add_(gained) if in_place else v + gained
    spike_count = fire(v, v_threshold, v.new_full((), max_spikes), max_spikes)  # Γ spikes may always be taken back
    return spike_count, soft_reset(v, spike_count, v_threshold, in_place=in_place), charge


@register("two_sided_if_neuron")  # its name in files
class LeakyReLUNeuron(IntegratingNeuron):
    """Integrate-and-fire neuron that stands for a leaky ReLU (module docstring).

    Args:
        v_threshold, v_init, bias, max_spikes, axis: as of every ``IntegratingNeuron``; θ is of either sign's spikes.
        slope: of the activation below zero, scalar or ``[C]``.
    """

    signed = True
    surrogate: None = field(default=None, init=False)  # one triangle at every level
    slope: PerChannel = default(0.01)

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("v", "charge")

    def initial_state(self, *inputs: Tensor) -> State:
        (v,) = super().initial_state(*inputs)
        return v, torch.zeros_like(v)

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        x, v_threshold = self.current(x, self.axis), per_channel(self.v_threshold, x, self.axis)
        slope = per_channel(self.slope, x, self.axis)
        v, charge = state
        count, v, charge = leaky_relu_if_step(v, charge, x, v_threshold, slope, self.max_spikes, in_place=in_place)
        return count, (v, charge)

    def activation(self) -> Activation:
        return LeakyReLU(self.slope.detach())

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.fire(self, inputs[0], slope=self.slope)
