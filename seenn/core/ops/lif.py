"""The leaky integrate-and-fire neuron, for networks that are trained as spiking networks."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Annotated

from torch import Tensor

from seenn.core.ops.arguments import Flag, Number, PerChannel, default, number, optional, per_channel
from seenn.core.ops.base import State, register
from seenn.core.ops.membrane import Membrane
from seenn.core.ops.neuron import Neuron


@register("lif_neuron")
class LIFNeuron(Neuron):
    """Leaky integrate-and-fire neuron, binary, with hard or soft reset.

    ::

        v ← decay·v + x
        s = H(v − θ)
        v ← (1 − s)·v + s·v_reset      or, where v_reset is None,      v ← v − s·θ

    The output of a step is ``s·θ``. Charge is lost, so the mean output over time is not an activation of the
    mean input: a network with this neuron has no analog twin. As in SEENN (Li et al. 2023), whose defaults
    these are, the current is not scaled by the leak.

    Args:
        v_threshold, v_init, axis: as of every ``Neuron``.
        decay: share of the membrane that a step keeps, in [0, 1); without a leak use ``IFNeuron``.
        v_reset: membrane after a spike, in the activation's unit, below every threshold; None resets by
            subtraction.
        detach_reset: gradients do not flow through the spikes of the reset.
        surrogate: derivative of the spike in training; None is ``Triangle()``.
    """

    v_init: PerChannel = default(0.0)
    _: KW_ONLY
    decay: Number = 0.5
    v_reset: Annotated[float | None, partial(optional, check=number)] = 0.0
    detach_reset: Flag = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}; a neuron without a leak is IFNeuron")
        if self.v_reset is not None and not bool((self.v_threshold > self.v_reset).all()):
            lowest = f"a threshold of {float(self.v_threshold.detach().min()):g}"
            raise ValueError(f"v_reset must be below every threshold, got {self.v_reset} and {lowest}")

    @property
    def title(self) -> str:
        return "lif"

    @property
    def membrane(self) -> Membrane:
        return Membrane(decay=self.decay, v_reset=self.v_reset, detach_reset=self.detach_reset)

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        count, v = self.membrane.step(state[0], x, v_threshold, self.surrogate, in_place=in_place)
        return count, (v,)
