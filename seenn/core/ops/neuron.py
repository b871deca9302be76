"""Neurons: what all kinds share, and the integrate-and-fire neuron.

A neuron is a pure step on explicit state, for engines, and a thin module with a membrane of its own, for
people's models. In every step of an integrate-and-fire neuron the membrane charges, fires ``n`` spikes and is
reset by subtraction::

    v ← v + x
    n = clip(⌊v / θ⌋, −min(Γ, S) if signed else 0, Γ)
    v ← v − n·θ        S ← S + n

Γ (``max_spikes``) is 1 for a binary neuron and larger for a burst neuron. A signed neuron may take back
spikes that it fired too early (ST-BIF rule, You et al. 2024): a negative spike when ``v < 0``, never more
than the net count ``S`` fired so far, so its output stays a non-negative sum. The output of a step is
``n·θ``, in the activation's unit: over T steps the mean output approaches ``clip(mean x, 0, Γ·θ)``, and on
constant input it equals that value rounded to steps of θ/T exactly (Rueckauer et al. 2017; Bu et al. 2022).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, field
from functools import partial
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn

from seenn.core.ops.activation import QCFS, Activation, ReLU
from seenn.core.ops.arguments import (
    Axis,
    Ceiling,
    Flag,
    Levels,
    OptionalVector,
    PerChannel,
    Threshold,
    default,
    integer,
    per_channel,
)
from seenn.core.ops.base import State, StatefulOp, Traffic, register
from seenn.core.ops.fused import fused_if_step
from seenn.core.ops.lowering import Lowering, Value
from seenn.core.ops.membrane import Membrane, cut_off, soft_reset
from seenn.surrogate import Surrogate, Triangle, fire

MOST_SPIKES = 127  # in a step, of neurons that fire as often as their membrane holds


def if_step(
    v: Tensor,
    current: Tensor,
    v_threshold: Tensor,
    max_spikes: int = 1,
    surrogate: Surrogate | None = None,
    *,
    in_place: bool = False,
) -> tuple[Tensor, Tensor]:
    """Charge, fire up to ``max_spikes`` times, reset by subtraction; ``(spike_count, v)``, all ``[B, C, ...]``.

    ``in_place`` (without autograd) overwrites ``v`` instead of allocating; the values are the same.
    """
    v = v.add_(current) if in_place else v + current
    spike_count = fire(v, v_threshold, None, max_spikes, surrogate)
    return spike_count, soft_reset(v, spike_count, v_threshold, in_place=in_place)


def signed_if_step(
    v: Tensor,
    net_count: Tensor,
    current: Tensor,
    v_threshold: Tensor,
    max_spikes: int = 1,
    *,
    in_place: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``if_step``, but takes back up to ``net_count`` earlier spikes; ``(spike_count, v, net_count)``."""
    v = v.add_(current) if in_place else v + current
    spike_count = fire(v, v_threshold, net_count, max_spikes)
    v = soft_reset(v, spike_count, v_threshold, in_place=in_place)
    return spike_count, v, net_count.add_(spike_count) if in_place else net_count + spike_count.detach()


class Neuron(StatefulOp):
    """What fires: a threshold, an initial membrane, and a rule.

    In a model, call it like any module: ``y = neuron(x)`` advances its own membrane by one step, and
    ``reset()`` (or a change of the batch's shape, which raises) ends a sequence. Engines never use that
    state; they call ``fire`` with explicit state, once per call site.

    Args:
        v_threshold: θ > 0, scalar or per channel ``[C]``, in the activation's unit.
        v_init: membrane at the start as a fraction of θ, scalar or ``[C]``; ½ rounds instead of truncating.
        surrogate: of a binary neuron's spike, for training; it is no part of what a checkpoint holds.
        axis: channel axis of the input.
    """

    fires = True
    carried = "v"
    v_threshold: Threshold = default(1.0)
    v_init: PerChannel = default(0.5)
    _: KW_ONLY
    surrogate: Surrogate | None = None
    axis: Axis = 1
    _state: State | None = field(default=None, init=False)

    @property
    def membrane(self) -> Membrane | None:
        """The rules of a binary neuron that has no others; None for a neuron that is run step by step."""
        return None

    @abstractmethod
    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        """One step: ``(spike_count, state)``; counts are integers, negative only for signed neurons.

        ``in_place`` (without autograd) lets the new state take the memory of the one given.
        """

    def weight(self, t: Tensor, timesteps: int) -> Tensor | float:
        """How often a spike of step t ``[B]`` counts in the sum that is T times the mean output over T steps."""
        return 1.0

    def distinct(self, timesteps: int) -> int:
        """How many values the sum of its spikes may take after so many steps."""
        return timesteps + 1

    def current(self, x: Tensor, axis: int) -> Tensor:
        """What charges the membrane when ``x`` arrives; ``axis`` is that of its channels."""
        return x

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("v",)

    def initial_state(self, *inputs: Tensor) -> State:
        (x,) = inputs
        start = per_channel(self.v_init, x, self.axis) * per_channel(self.v_threshold, x, self.axis)
        return (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, start.dtype)).add_(start),)

    def carry(self, value: Tensor) -> Tensor:
        """The membrane cut off at 0 and θ: what lies beyond would hold the neuron down, or up, for many steps."""
        return cut_off(value, per_channel(self.v_threshold, value, self.axis))

    def emit(self, spike_count: Tensor, *, out: Tensor | None = None) -> Tensor:
        """What the next layer receives: ``spike_count · θ``."""
        return torch.mul(spike_count, per_channel(self.v_threshold, spike_count, self.axis), out=out)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        count, state = self.fire(inputs[0], state)
        return self.emit(count), state

    def counted_step(
        self, inputs: tuple[Tensor, ...], state: State, *, in_place: bool = False
    ) -> tuple[Tensor, Tensor, State]:
        count, state = self.fire(inputs[0], state, in_place=in_place)
        return self.emit(count), count, state

    @property
    def analog(self) -> Activation | None:
        return None

    def traffic(self, inputs: Collection[Traffic]) -> Traffic:
        return "spikes"

    def unroll(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        """All steps at once where the backward pass has a closed form: binary, and the threshold is not trained."""
        (x,) = inputs
        if self.membrane is None or (torch.is_grad_enabled() and self.v_threshold.requires_grad):
            return super().unroll(inputs, state)
        v_threshold = per_channel(self.v_threshold, x[0], self.axis)
        surrogate = self.surrogate or Triangle()
        outputs, v = self.membrane.unroll(state[0], self.current(x, self.axis + 1), v_threshold, surrogate)
        return outputs, (v,)

    def forward(self, x: Tensor) -> Tensor:
        """One step on the module's own membrane, for models that are run without an engine."""
        if self._state is None:
            self._state = self.initial_state(x)
        if self._state[0].shape != x.shape:
            raise ValueError(
                f"{type(self).__name__} holds a membrane of shape {tuple(self._state[0].shape)} and was given input "
                f"of shape {tuple(x.shape)}: call reset() between sequences, and use one neuron per call site"
            )
        output, self._state = self.step((x,), self._state)
        return output

    def reset(self) -> None:
        """Forgets the module's own membrane: the next call starts a new sequence."""
        self._state = None


class IntegratingNeuron(Neuron):
    """A neuron without a leak, which stands for an activation and approaches it over time.

    Its output adds up to what its input does but for rounding, clipping and what the membrane holds, so that
    conversion can choose its threshold and correct what is left.

    Args:
        bias: constant current added in every step, ``[C]``; calibration's correction, absent from the ANN.
        max_spikes: Γ ≥ 1, most spikes of either sign in one step.
    """

    signed = False  # whether spikes may be negative
    settles = False  # on exactly its activation, so that no error is left to correct
    bias: OptionalVector = None
    _: KW_ONLY
    max_spikes: Annotated[int, partial(integer, low=1, high=127)] = 1

    @abstractmethod
    def activation(self) -> Activation:
        """The activation that this neuron stands for."""

    @property
    def analog(self) -> Activation:
        return self.activation()

    def distinct(self, timesteps: int) -> int:
        return (1 + self.activation().two_sided) * self.max_spikes * timesteps + 1

    def current(self, x: Tensor, axis: int) -> Tensor:
        return x if self.bias is None else x + per_channel(self.bias, x, axis)

    def corrected(self, v_init: Tensor, bias: Tensor | None) -> Self:
        """The same neuron with another initial membrane and constant current."""
        arguments: dict[str, Any] = {**self.tensors(), **self.config(), "v_init": v_init, "bias": bias}
        return type(self)(**arguments)


@register("if_neuron")
class IFNeuron(IntegratingNeuron):
    """Integrate-and-fire neuron with soft reset; unsigned, signed and burst in one rule (module docstring).

    Args:
        v_threshold, v_init, axis: as of every ``Neuron``.
        bias, max_spikes: as of every ``IntegratingNeuron``.
        signed: may fire −1 to take spikes back.
        ceiling: clip of the activation this neuron stands for (6 for ReLU6), None for a plain ReLU. Neither
            the rule nor the spikes depend on it; ``activation()`` does.
        levels: L where it stands for a QCFS activation, None for a ReLU; as ``ceiling``, for ``activation()``.
        surrogate: derivative of the spike in training, of a binary unsigned neuron only; None is one triangle
            (γ = 1) at every firing level.
    """

    added = ("levels",)
    _: KW_ONLY
    signed: Flag = False
    ceiling: Ceiling = None
    levels: Levels = None

    def __post_init__(self) -> None:
        if self.surrogate is not None and (self.signed or self.max_spikes > 1):
            raise ValueError(f"a surrogate is for binary neurons; a {self.title} neuron has its own: leave it out")

    @property
    def title(self) -> str:
        if self.max_spikes == 1:
            return "signed" if self.signed else "if"
        return f"{'signed' if self.signed else 'burst'} (up to {self.max_spikes} spikes)"

    @property
    def membrane(self) -> Membrane | None:
        return None if self.signed or self.max_spikes > 1 else Membrane()

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("v", "net_count") if self.signed else ("v",)

    def initial_state(self, *inputs: Tensor) -> State:
        (v,) = super().initial_state(*inputs)
        return (v, torch.zeros_like(v)) if self.signed else (v,)

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        x = self.current(x, self.axis)
        if self.signed:
            v, net_count = state
            count, *after = signed_if_step(v, net_count, x, v_threshold, self.max_spikes, in_place=in_place)
        else:
            count, *after = if_step(state[0], x, v_threshold, self.max_spikes, self.surrogate, in_place=in_place)
        return count, tuple(after)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        x = inputs[0]
        training = torch.is_grad_enabled() and (x.requires_grad or self.v_threshold.requires_grad)
        if not training or self.surrogate is not None:
            return super().step(inputs, state)
        net_count = state[1] if self.signed else None
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        output, v, net_count = fused_if_step(
            state[0], self.current(x, self.axis), v_threshold, net_count, self.max_spikes
        )
        return output, (v,) if net_count is None else (v, net_count)

    def activation(self) -> Activation:
        if self.levels is None:
            return ReLU(ceiling=self.ceiling)
        return QCFS(self.v_threshold.detach() * self.max_spikes, levels=self.levels, axis=self.axis)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.fire(self, inputs[0])


def reset(module: nn.Module) -> None:
    """Resets every neuron inside ``module``."""
    for part in module.modules():
        if isinstance(part, Neuron):
            part.reset()
