"""The integrate-and-fire neuron: binary, soft reset, no leak."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seenn.core.ops import Activation, IFNeuron, IntegratingNeuron, Neuron
from seenn.errors import did_you_mean
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

    def make(self, levels: int, **rules: Any) -> Neuron:
        return IFNeuron(1.0, 0.0, surrogate=named_surrogate(**rules))


def named_surrogate(surrogate: str | Surrogate = "dspike") -> Surrogate:
    """A surrogate by its name; an object as it is.

    Raises:
        ValueError: there is no such name.
    """
    if not isinstance(surrogate, str):
        return surrogate
    if surrogate not in SURROGATES:
        raise ValueError(f"unknown surrogate {surrogate!r}.{did_you_mean(surrogate, SURROGATES)}")
    return SURROGATES[surrogate]()


NEURONS.register(If.name)(If())
