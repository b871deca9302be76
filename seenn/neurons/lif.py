"""The leaky integrate-and-fire neuron, for direct training."""

from __future__ import annotations

from typing import Any

from seenn.core.ops import LIFNeuron, Neuron
from seenn.neurons import NEURONS, NeuronKind
from seenn.neurons.if_ import named_surrogate


class Lif(NeuronKind):
    """Fires at most once a step; charge leaks, so it stands for no activation. See ``LIFNeuron`` for its rules.

    ``surrogate`` is a name or an object; ``v_reset`` None resets by subtraction.
    """

    name = "lif"
    most_levels = default_levels = 1
    other_levels = "burst or signed"
    converts = False
    rules = ("surrogate", "decay", "v_reset", "detach_reset")

    def make(self, levels: int, **rules: Any) -> Neuron:
        return LIFNeuron(**rules | {"surrogate": named_surrogate(rules.get("surrogate", "dspike"))})


NEURONS.register(Lif.name)(Lif())
