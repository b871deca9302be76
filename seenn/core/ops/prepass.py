"""Neurons that start from what a pre-pass over the same image showed: COS and SRP.

What makes an integrate-and-fire neuron wrong at T is mostly that currents arrive unevenly: it fires what it cannot
take back, or arrives at charge that it has no steps left to fire. A pre-pass of ρ steps shows, for every neuron of
every image, which of the two happened, and the run starts from other membranes. Its steps are run for each image
before the first that answers, and count in every figure.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, field
from functools import partial
from typing import Annotated

import torch
from torch import Tensor

from seenn.core.ops.arguments import choice, integer, per_channel
from seenn.core.ops.base import Initialisation, State, register
from seenn.core.ops.neuron import IFNeuron

RULES = ("cos", "srp")
_SILENT = 1e-3  # SRP: residual charge, in thresholds, up to which a neuron is taken to be wrong when it fires
_BEYOND = 1e-3  # COS: how far a membrane is moved past the spike that is to be lost or won


@register("prepass_if_neuron")
class PrepassIFNeuron(IFNeuron):
    """Binary integrate-and-fire neuron whose membrane starts from what ρ steps of a pre-pass showed.

    With v the membrane after ρ steps and u_t what it was charged to in step t, both in thresholds:

    ``cos`` (calibrated offset spikes, Hao et al. 2023, ICLR) moves the start so that one spike fewer, or one more,
    comes out of the same currents::

        v < 0, and it fired      ½ − max(1, min {u_t: fired} − 1 + 10⁻³)
        v ≥ 1, and it paused     ½ + max(1, 1 + 10⁻³ − max {u_t: paused})
        else                     ½

    ``srp`` (residual membrane potentials, Hao et al. 2023, AAAI) silences a neuron, as if its activation were 0,
    unless ``v > 10⁻³``; the others start at ½.

    Args:
        v_init: membrane at both starts as a fraction of θ, the ½ above; scalar or ``[C]``.
        prepass: ρ ≥ 1.
        rule: ``"cos"`` or ``"srp"``.
        v_threshold, bias, ceiling, levels, axis: see ``IFNeuron``.
    """

    signed: bool = field(default=False, init=False)
    max_spikes: int = field(default=1, init=False)
    _: KW_ONLY
    prepass: Annotated[int, partial(integer, low=1, high=4096)]
    rule: Annotated[str, partial(choice, of=RULES)] = "cos"

    @property
    def initial_steps(self) -> int:
        return self.prepass

    def initialisation(self, state: State) -> Initialisation:
        return _Prepass(self, state)

    @property
    def title(self) -> str:
        return f"if after {self.prepass} steps of {self.rule}"

    def restart(self, v: Tensor, lowest_fired: Tensor, highest_paused: Tensor) -> Tensor:
        """The membrane to start from, ``[B, C, ...]``.

        Args:
            v: membrane after the pre-pass.
            lowest_fired: the least that it was charged to in a step in which it fired; infinite where it never did.
            highest_paused: the most in a step in which it did not; minus infinity where there was none.
        """
        theta, start = per_channel(self.v_threshold, v, self.axis), per_channel(self.v_init, v, self.axis)
        left, lowest, highest = v / theta, lowest_fired / theta, highest_paused / theta
        start = start.expand_as(v)
        if self.rule == "srp":
            return torch.where(left > _SILENT, start * theta, -math.inf)
        fewer = start - (lowest - 1 + _BEYOND).clamp(min=1)
        more = start + (1 + _BEYOND - highest).clamp(min=1)
        chosen = torch.where((left < 0) & lowest.isfinite(), fewer, start)
        return torch.where((left >= 1) & highest.isfinite(), more, chosen) * theta


class _Prepass:
    """Keeps what ``restart`` needs to know."""

    def __init__(self, neuron: PrepassIFNeuron, state: State) -> None:
        self._neuron = neuron
        (self._v,) = state
        self._lowest, self._highest = torch.full_like(self._v, math.inf), torch.full_like(self._v, -math.inf)

    def see(self, state: State, count: Tensor | None) -> None:
        assert count is not None
        (self._v,) = state
        charged, fires = self._v + self._neuron.emit(count), count > 0
        self._lowest = torch.where(fires, torch.minimum(self._lowest, charged), self._lowest)
        self._highest = torch.where(fires, self._highest, torch.maximum(self._highest, charged))

    def start(self) -> State:
        return (self._neuron.restart(self._v, self._lowest, self._highest),)
