"""The leaky integrate-and-fire neuron, for networks that are trained as spiking networks."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.arguments import Flag, Number, PerChannel, default, integer, number, optional, per_channel
from seenn.core.ops.base import State, register
from seenn.core.ops.membrane import Membrane, soft_reset
from seenn.core.ops.neuron import MOST_SPIKES, Neuron
from seenn.surrogate import fire


@register("lif_neuron")
class LIFNeuron(Neuron):
    """Leaky integrate-and-fire neuron, binary with hard or soft reset, or of several spikes a step with soft reset.

    ::

        v ← decay·v + x
        s = H(v − θ)                   or, of several spikes,          s = clip(⌊v/θ⌋, 0, Γ)
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
        max_spikes: Γ ≥ 1, most spikes in one step; as many as the membrane holds are sinabs' rule.
        surrogate: of a binary neuron's spike, in training; None is a triangle at every firing level.
    """

    added = ("max_spikes",)
    v_init: PerChannel = default(0.0)
    _: KW_ONLY
    decay: Number = 0.5
    v_reset: Annotated[float | None, partial(optional, check=number)] = 0.0
    detach_reset: Flag = False
    max_spikes: Annotated[int, partial(integer, low=1, high=MOST_SPIKES)] = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {self.decay}; a neuron without a leak is IFNeuron")
        if self.v_reset is not None and not bool((self.v_threshold > self.v_reset).all()):
            lowest = f"a threshold of {float(self.v_threshold.detach().min()):g}"
            raise ValueError(f"v_reset must be below every threshold, got {self.v_reset} and {lowest}")
        if self.max_spikes > 1 and (self.v_reset is not None or self.detach_reset or self.surrogate is not None):
            raise ValueError(
                "v_reset, detach_reset and surrogate are for binary neurons: several spikes a step are subtracted; "
                "give v_reset=None and leave out the others"
            )

    @property
    def title(self) -> str:
        return "lif" if self.max_spikes == 1 else f"lif (up to {self.max_spikes} spikes)"

    def distinct(self, timesteps: int) -> int:
        return self.max_spikes * timesteps + 1

    @property
    def membrane(self) -> Membrane | None:
        if self.max_spikes > 1:
            return None
        return Membrane(decay=self.decay, v_reset=self.v_reset, detach_reset=self.detach_reset)

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        if (membrane := self.membrane) is not None:
            count, v = membrane.step(state[0], x, v_threshold, self.surrogate, in_place=in_place)
            return count, (v,)
        v = torch.add(x, state[0], alpha=self.decay)
        count = fire(v, v_threshold, None, self.max_spikes)
        return count, (soft_reset(v, count, v_threshold),)
