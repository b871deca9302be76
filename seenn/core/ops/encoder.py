"""The identity encoder: a neuron that stands for no nonlinearity, so that spikes of both signs carry a value.

::

    v ← v + x
    n = clip(⌊v / θ⌋, −Γ, Γ)
    v ← v − n·θ

From v = θ/2 it rounds: no more than half a threshold is ever missing, |Σx − θΣn| ≤ θ/2, while no step needs more than
Γ spikes. Unlike a ReLU's neuron it may have fired fewer than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

import torch
from torch import Tensor

from seenn.core.ops.activation import Activation, Identity
from seenn.core.ops.arguments import per_channel
from seenn.core.ops.base import State, register
from seenn.core.ops.lowering import Lowering, Value
from seenn.core.ops.membrane import soft_reset
from seenn.core.ops.neuron import IntegratingNeuron
from seenn.surrogate import fire


@register("encoder")
class Encoder(IntegratingNeuron):
    """Integrate-and-fire neuron that stands for the identity (module docstring).

    Args:
        v_threshold, v_init, bias, max_spikes, axis: as of every ``IntegratingNeuron``; θ is of either sign's spikes.
    """

    signed = True
    surrogate: None = field(default=None, init=False)  # one triangle at every level

    @property
    def title(self) -> str:
        return f"encoder (up to ±{self.max_spikes} spikes)"

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v_threshold, (v,) = per_channel(self.v_threshold, x, self.axis), state
        x = self.current(x, self.axis)
        v = v.add_(x) if in_place else v + x
        count = fire(v, v_threshold, v.new_full((), self.max_spikes), self.max_spikes)  # as many below zero
        return count, (soft_reset(v, count, v_threshold, in_place=in_place),)

    def activation(self) -> Activation:
        return Identity()

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.fire(self, inputs[0], slope=torch.ones(()))
