"""The integrate-and-fire neuron whose membrane has a floor: that of sinabs and of its chips."""

from __future__ import annotations

from dataclasses import KW_ONLY
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.arguments import PerChannel, default, integer, per_channel
from seenn.core.ops.base import State, register
from seenn.core.ops.membrane import soft_reset
from seenn.core.ops.neuron import MOST_SPIKES, Neuron
from seenn.surrogate import fire


@register("floored_neuron")
class FlooredNeuron(Neuron):
    """Integrates, fires as often as the membrane holds, and forgets what would take it below −θ.

    ::

        v ← max(v + x, −θ)
        n = clip(⌊v/θ⌋, 0, Γ)
        v ← v − n·θ

    The output of a step is ``n·θ``. What the floor takes away never comes back, so a network with this neuron has no
    analog twin. sinabs 3.1 knows no Γ, and cuts off after it fired, which is the same.

    Args:
        v_threshold, v_init, axis: as of every ``Neuron``.
        max_spikes: Γ ≥ 1, most spikes in one step.
        surrogate: of a binary neuron only; None is a triangle at every firing level.
    """

    v_init: PerChannel = default(0.0)
    _: KW_ONLY
    max_spikes: Annotated[int, partial(integer, low=1, high=MOST_SPIKES)] = MOST_SPIKES

    def __post_init__(self) -> None:
        if self.surrogate is not None and self.max_spikes > 1:
            raise ValueError(f"a surrogate is for binary neurons; a {self.title} neuron has its own: leave it out")

    @property
    def title(self) -> str:
        return f"floored (up to {self.max_spikes} spikes)"

    def distinct(self, timesteps: int) -> int:
        return self.max_spikes * timesteps + 1

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        v = torch.maximum(state[0] + x, -v_threshold)
        count = fire(v, v_threshold, None, self.max_spikes, self.surrogate)
        return count, (soft_reset(v, count, v_threshold),)
