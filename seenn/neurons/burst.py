"""The burst neuron: integrate-and-fire with several spikes a step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seenn.core.ops import Activation, IFNeuron, IntegratingNeuron, Neuron
from seenn.neurons import NEURONS, NeuronKind


class Burst(NeuronKind):
    """Fires up to Γ times a step. Trained, its surrogate is one triangle at every level."""

    name = "burst"
    least_levels = 2
    other_levels = "if"

    def convert(self, activation: Activation, v_threshold: Tensor, levels: int) -> IntegratingNeuron:
        return IFNeuron(v_threshold, max_spikes=levels, **activation.neuron_arguments())

    def make(self, levels: int, **rules: Any) -> Neuron:
        return IFNeuron(max_spikes=levels)


NEURONS.register(Burst.name)(Burst())
