"""A pre-pass: steps in which neurons only find out from where to start, before the network answers.

What makes an integrate-and-fire neuron wrong at T is mostly that currents arrive unevenly: it fires what it cannot
take back, or arrives at charge that it has no steps left to fire. A pre-pass of ρ steps shows for every neuron of
every image which of it happened, and the run starts again from other membranes. Its steps are steps: they count in
every figure, and an answer after t steps has had ρ of them for the pre-pass and t − ρ for itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seenn.ops.activation import QCFS, Activation, ReLU
from seenn.ops.arguments import integer, number, per_channel
from seenn.ops.base import State, StatefulOp, register
from seenn.ops.membrane import soft_reset
from seenn.ops.neuron import IntegratingNeuron
from seenn.surrogate import fire

RULES = ("cos", "srp")
_SILENT = 1e-3  # SRP: residual charge, in thresholds, up to which a neuron is taken to be wrong when it fires
_BEYOND = 1e-3  # COS: how far a membrane is moved past the spike that is to be lost or won


@register("prepass_if_neuron")
class PrepassIFNeuron(IntegratingNeuron):
    """Binary integrate-and-fire neuron that starts again after a pre-pass of ρ steps.

    With v the membrane after ρ steps and u_t what it was charged to in step t, both in thresholds:

    ``cos`` (calibrated offset spikes, Hao et al. 2023, ICLR) moves the start so that one spike fewer, or one more,
    comes out of the same currents::

        v < 0, and it fired      ½ − max(1, min {u_t: fired} − 1 + 10⁻³)
        v ≥ 1, and it paused     ½ + max(1, 1 + 10⁻³ − max {u_t: paused})
        else                     ½

    ``srp`` (residual membrane potentials, Hao et al. 2023, AAAI) silences a neuron, as if its activation were 0,
    unless ``v > 10⁻³``; the others start at ½.

    Args:
        v_threshold: θ > 0, scalar or per channel ``[C]``, in the activation's unit.
        v_init: membrane at both starts as a fraction of θ, the ½ above; scalar or ``[C]``.
        bias: constant current added in every step, ``[C]``.
        prepass: ρ ≥ 1.
        rule: ``"cos"`` or ``"srp"``.
        ceiling: clip of the activation this neuron stands for, None for a plain ReLU.
        levels: L where it stands for a QCFS activation, None for a ReLU.
        axis: channel axis of the input.
    """

    attributes = ("prepass", "rule", "ceiling", "levels", "axis")
    tensor_names = ("v_threshold", "v_init", "bias")
    signed = False

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_init: float | Tensor = 0.5,
        bias: Tensor | None = None,
        *,
        prepass: int,
        rule: str = "cos",
        ceiling: float | None = None,
        levels: int | None = None,
        axis: int = 1,
    ) -> None:
        super().__init__(v_threshold, v_init, bias, max_spikes=1, axis=axis)
        self.prepass = integer("prepass", prepass, low=1, high=4096)
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
        self.rule = rule
        self.ceiling = None if ceiling is None else number("ceiling", ceiling, above=0.0)
        self.levels = None if levels is None else integer("levels", levels, low=1, high=4096)

    @property
    def title(self) -> str:
        return f"if after {self.prepass} steps of {self.rule}"

    @property
    def membrane(self) -> None:
        """None: what it does over time is more than a membrane's two rules."""

    def activation(self) -> Activation:
        if self.levels is None:
            return ReLU(ceiling=self.ceiling)
        return QCFS(self.v_threshold.detach(), levels=self.levels, axis=self.axis)

    def state_names(self, arity: int) -> tuple[str, ...]:
        return "v", "lowest_fired", "highest_paused", "t"

    def initial_state(self, *inputs: Tensor) -> State:
        (v,) = super().initial_state(*inputs)
        return v, torch.full_like(v, math.inf), torch.full_like(v, -math.inf), v.new_zeros(len(v))

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v, lowest, highest, t = state
        theta = per_channel(self.v_threshold, x, self.axis)
        charged = v + self.current(x, self.axis)
        count = fire(charged, theta)
        v, t = soft_reset(charged, count, theta), t + 1
        before, last = (rows.view(-1, *[1] * (v.dim() - 1)) for rows in (t <= self.prepass, t == self.prepass))
        lowest = torch.where(before & (count > 0), torch.minimum(lowest, charged), lowest)
        highest = torch.where(before & (count == 0), torch.maximum(highest, charged), highest)
        v = torch.where(last, self._start(v / theta, lowest / theta, highest / theta) * theta, v)
        return count, (v, lowest, highest, t)

    def _start(self, v: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        """The membrane to start from, in thresholds."""
        start = per_channel(self.v_init, v, self.axis).expand_as(v)
        if self.rule == "srp":
            return torch.where(v > _SILENT, start, -math.inf)
        fewer = start - (lowest - 1 + _BEYOND).clamp(min=1)
        more = start + (1 + _BEYOND - highest).clamp(min=1)
        start = torch.where((v < 0) & lowest.isfinite(), fewer, start)
        return torch.where((v >= 1) & highest.isfinite(), more, start)


@register("delayed_readout")
class DelayedReadout(StatefulOp):
    """Passes nothing on in the first ``after`` steps, then everything: outputs of a pre-pass are no answer."""

    attributes = ("after",)

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.after = integer("after", after, low=1, high=4096)

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("t",)

    def initial_state(self, *inputs: Tensor) -> State:
        return (inputs[0].new_zeros(len(inputs[0])),)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        (x,), t = inputs, state[0] + 1
        return x * (t > self.after).view(-1, *[1] * (x.dim() - 1)), (t,)
