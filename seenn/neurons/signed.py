"""The signed neuron: it may take back spikes that it fired too early, and carries values of both signs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seenn.core.ops import Activation, IFNeuron, IntegratingNeuron, Neuron, Quantiser, QuantiserNeuron, TwoSidedIFNeuron
from seenn.neurons import NEURONS, NeuronKind


class Signed(NeuronKind):
    """Fires up to Γ spikes of either sign a step. Trained, its surrogate is one triangle at every level."""

    name = "signed"
    signed = True

    def convert(self, activation: Activation, v_threshold: Tensor, levels: int) -> IntegratingNeuron:
        if isinstance(activation, Quantiser) and activation.needs_limits(v_threshold, levels):
            unit, steps, low, high = activation.grid
            return QuantiserNeuron(v_threshold, scale=unit.detach() / steps, low=low, high=high, max_spikes=levels)
        if activation.two_sided:
            return TwoSidedIFNeuron(v_threshold, max_spikes=levels, **activation.neuron_arguments())
        return IFNeuron(v_threshold, signed=True, max_spikes=levels, **activation.neuron_arguments())

    def make(self, levels: int, **rules: Any) -> Neuron:
        return IFNeuron(signed=True, max_spikes=levels)


NEURONS.register(Signed.name)(Signed())
