"""Integrate-and-fire neurons: pure step functions, and the thin module that people put into models.

In every step the membrane charges, fires ``n`` spikes and is reset by subtraction::

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

import torch
from torch import Tensor, nn

from seenn.ops.arguments import flag, integer, number, parameter, per_channel
from seenn.ops.base import State, StatefulOp, register
from seenn.surrogate import fire


def if_step(
    v: Tensor, current: Tensor, v_threshold: Tensor, max_spikes: int = 1, *, in_place: bool = False
) -> tuple[Tensor, Tensor]:
    """Charge, fire up to ``max_spikes`` times, reset by subtraction; ``(spike_count, v)``, all ``[B, C, ...]``.

    ``in_place`` (without autograd) overwrites ``v`` instead of allocating; the values are the same.
    """
    v = v.add_(current) if in_place else v + current
    spike_count = fire(v, v_threshold, None, max_spikes)
    return spike_count, _soft_reset(v, spike_count, v_threshold, in_place)


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
    v = _soft_reset(v, spike_count, v_threshold, in_place)
    return spike_count, v, net_count.add_(spike_count) if in_place else net_count + spike_count.detach()


def _soft_reset(v: Tensor, spike_count: Tensor, v_threshold: Tensor, in_place: bool) -> Tensor:
    if in_place:
        return v.addcmul_(spike_count, v_threshold, value=-1)
    return torch.addcmul(v, spike_count, v_threshold, value=-1)


@register("if_neuron")
class IFNeuron(StatefulOp):
    """Integrate-and-fire neuron with soft reset; unsigned, signed and burst in one rule (module docstring).

    In a model, call it like any module: ``y = neuron(x)`` advances its own membrane by one step, and
    ``reset()`` (or a change of the batch's shape, which raises) ends a sequence. Engines never use that
    state; they call ``fire`` with explicit state, once per call site.

    Args:
        v_threshold: θ > 0, scalar or per channel ``[C]``, in the activation's unit.
        v_init: membrane at the start as a fraction of θ, scalar or ``[C]``; ½ rounds instead of truncating.
        bias: constant current added in every step, ``[C]``; calibration's correction, absent from the ANN.
        signed: may fire −1 to take spikes back.
        max_spikes: Γ ≥ 1, most spikes of either sign in one step.
        ceiling: clip of the activation this neuron stands for (6 for ReLU6), None for a plain ReLU. Neither
            the rule nor the spikes depend on it; ``SpikingNetwork.analog()`` does.
        axis: channel axis of the input.
    """

    affine = False
    attributes = ("signed", "max_spikes", "ceiling", "axis")
    tensor_names = ("v_threshold", "v_init", "bias")
    v_threshold: nn.Parameter
    v_init: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_init: float | Tensor = 0.5,
        bias: Tensor | None = None,
        *,
        signed: bool = False,
        max_spikes: int = 1,
        ceiling: float | None = None,
        axis: int = 1,
    ) -> None:
        super().__init__()
        self.v_threshold = parameter("v_threshold", _tensor(v_threshold), dims=(0, 1))
        if not bool((self.v_threshold > 0).all()) or not bool(self.v_threshold.isfinite().all()):
            raise ValueError(f"v_threshold must be positive and finite everywhere, got {_extremes(self.v_threshold)}")
        self.register_buffer("v_init", _tensor(v_init).detach())
        if self.v_init.dim() > 1 or not self.v_init.is_floating_point() or not bool(self.v_init.isfinite().all()):
            kind = f"{self.v_init.dtype} of shape {tuple(self.v_init.shape)}"
            raise ValueError(f"v_init must be a finite floating-point scalar or [C], got {kind}")
        self.bias = None if bias is None else parameter("bias", bias, dims=1)
        self.signed = flag("signed", signed)
        self.max_spikes = integer("max_spikes", max_spikes, low=1, high=127)
        self.ceiling = None if ceiling is None else number("ceiling", ceiling, above=0.0)
        self.axis = integer("axis", axis, low=1, high=8)
        self._state: State | None = None

    def state_names(self, arity: int) -> tuple[str, ...]:
        return ("v", "net_count") if self.signed else ("v",)

    def initial_state(self, *inputs: Tensor) -> State:
        (x,) = inputs
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        v = torch.zeros_like(x) + per_channel(self.v_init, x, self.axis) * v_threshold
        return (v, torch.zeros_like(x)) if self.signed else (v,)

    def fire(self, x: Tensor, state: State, *, in_place: bool = False) -> tuple[Tensor, State]:
        """One step: ``(spike_count, state)``; counts are whole numbers, negative only for signed neurons.

        ``in_place`` (without autograd) lets the new state take the memory of the one given.
        """
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        if self.bias is not None:
            x = x + per_channel(self.bias, x, self.axis)
        if self.signed:
            count, *after = signed_if_step(*state, x, v_threshold, self.max_spikes, in_place=in_place)
        else:
            count, *after = if_step(*state, x, v_threshold, self.max_spikes, in_place=in_place)
        return count, tuple(after)

    def emit(self, spike_count: Tensor, *, out: Tensor | None = None) -> Tensor:
        """What the next layer receives: ``spike_count · θ``."""
        return torch.mul(spike_count, per_channel(self.v_threshold, spike_count, self.axis), out=out)

    def step(self, inputs: tuple[Tensor, ...], state: State) -> tuple[Tensor, State]:
        count, state = self.fire(inputs[0], state)
        return self.emit(count), state

    def forward(self, x: Tensor) -> Tensor:
        """One step on the module's own membrane, for models that are run without an engine."""
        if self._state is None:
            self._state = self.initial_state(x)
        if self._state[0].shape != x.shape:
            raise ValueError(
                f"IFNeuron holds a membrane of shape {tuple(self._state[0].shape)} and was given input of shape "
                f"{tuple(x.shape)}: call reset() between sequences, and use one neuron per call site"
            )
        output, self._state = self.step((x,), self._state)
        return output

    def reset(self) -> None:
        """Forgets the module's own membrane: the next call starts a new sequence."""
        self._state = None

    def extra_repr(self) -> str:
        theta = self.v_threshold
        shown = f"{theta.item():.4g}" if theta.dim() == 0 else f"[{theta.numel()}]"
        return f"v_threshold={shown}, signed={self.signed}, max_spikes={self.max_spikes}"


def reset(module: nn.Module) -> None:
    """Resets every neuron inside ``module``."""
    for part in module.modules():
        if isinstance(part, IFNeuron):
            part.reset()


def _tensor(value: float | Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(float(value))


def _extremes(value: Tensor) -> str:
    return f"values from {value.min().item():g} to {value.max().item():g}"


def neuron_kind(signed: bool, max_spikes: int) -> str:
    """``"if"`` (binary), ``"burst"`` (several spikes a step) or ``"signed"``."""
    if signed:
        return "signed"
    return "if" if max_spikes == 1 else "burst"
