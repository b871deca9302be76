"""The integrate-and-fire neuron: binary, soft reset, no leak."""

from __future__ import annotations

from torch import Tensor

from seenn.core.ops import Activation, IFNeuron, IntegratingNeuron, Neuron
from seenn.neurons import NEURONS, NeuronKind
from seenn.surrogate import SURROGATES, Surrogate


class If(NeuronKind):
    """Fires at most once a step. Trained, it starts empty; ``surrogate`` is a name or an object."""

    name = "if"
    most_levels = default_levels = 1
    other_levels = "burst or signed"
    rules = ("surrogate",)

    def convert(self, activation: Activation, v_threshold: Tensor, levels: int) -> IntegratingNeuron:
        return IFNeuron(v_threshold, max_spikes=levels, **activation.neuron_arguments())

    def _trained(self, levels: int, *, surrogate: str | Surrogate = "dspike") -> Neuron:
        return IFNeuron(1.0, 0.0, surrogate=SURROGATES[surrogate]() if isinstance(surrogate, str) else surrogate)


NEURONS.register(If.name)(If())
