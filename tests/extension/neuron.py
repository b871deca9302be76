"""A neuron: integrate-and-fire with a floor under its membrane, and the kind that ``--neuron floor`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seenn.core.ops import Activation, IntegratingNeuron, Lowering, Neuron, ReLU, State, Value, register
from seenn.core.ops.arguments import per_channel
from seenn.errors import UnsupportedError
from seenn.neurons import NEURONS, NeuronKind
from seenn.surrogate import fire


@register("floor_neuron")
class FloorNeuron(IntegratingNeuron):
    """Stands for a ReLU, and forgets what would take its membrane below −θ::

    v ← max(v + x, −θ)
    n = clip(⌊v / θ⌋, 0, Γ)
    v ← v − n·θ
    """

    attributes = ("max_spikes", "axis")
    tensor_names = ("v_threshold", "v_init", "bias")
    signed = False

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_init: float | Tensor = 0.5,
        bias: Tensor | None = None,
        *,
        max_spikes: int = 1,
        axis: int = 1,
    ) -> None:
        super().__init__(v_threshold, v_init, bias, max_spikes=max_spikes, axis=axis)

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        theta = per_channel(self.v_threshold, x, self.axis)
        v = torch.maximum(state[0] + self.current(x, self.axis), -theta)
        count = fire(v, theta, max_spikes=self.max_spikes)
        return count, (v - count * theta,)

    def activation(self) -> ReLU:
        return ReLU()

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.call(self, inputs, "its floor has no integer form")


class Floor(NeuronKind):
    """Up to Γ spikes a step, converted or trained."""

    name = "floor"

    def convert(self, activation: Activation, v_threshold: Tensor, levels: int) -> FloorNeuron:
        if any(value is not None for value in activation.neuron_arguments().values()):
            raise UnsupportedError(f"{self.name} neurons stand for a plain ReLU, not for {activation.title}")
        return FloorNeuron(v_threshold, max_spikes=levels)

    def make(self, levels: int, **rules: Any) -> Neuron:
        return FloorNeuron(max_spikes=levels)


NEURONS.register(Floor.name)(Floor())
