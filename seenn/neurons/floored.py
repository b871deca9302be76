"""The neuron of sinabs and its chips, for networks that are to run there."""

from __future__ import annotations

from typing import Any

from seenn.core.ops import FlooredNeuron, Neuron
from seenn.neurons import NEURONS, NeuronKind


class Floored(NeuronKind):
    """Fires up to Γ times a step, and its membrane goes no lower than −θ. Trained, it has a triangle at every level."""

    name = "floored"
    default_levels = 127
    converts = False

    def make(self, levels: int, **rules: Any) -> Neuron:
        return FlooredNeuron(max_spikes=levels)


NEURONS.register(Floored.name)(Floored())
