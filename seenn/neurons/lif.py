"""The leaky integrate-and-fire neuron, for direct training."""

from __future__ import annotations

from typing import Any

from seenn.core.ops import LIFNeuron, Neuron
from seenn.neurons import NEURONS, NeuronKind
from seenn.surrogate import SURROGATES, Surrogate


class Lif(NeuronKind):
    """Fires at most once a step; charge leaks, so it stands for no activation. See ``LIFNeuron`` for its rules.

    ``surrogate`` is a name or an object; ``v_reset`` None resets by subtraction.
    """

    name = "lif"
    most_levels = default_levels = 1
    other_levels = "burst or signed"
    converts = False
    rules = ("surrogate", "decay", "v_reset", "detach_reset")

    def _trained(self, levels: int, *, surrogate: str | Surrogate = "dspike", **rules: Any) -> Neuron:
        return LIFNeuron(surrogate=SURROGATES[surrogate]() if isinstance(surrogate, str) else surrogate, **rules)


NEURONS.register(Lif.name)(Lif())
