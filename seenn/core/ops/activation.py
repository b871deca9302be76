"""Activations of the analog network: the call sites that conversion turns into neurons."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seenn.core.ops.arguments import MOST_LEVELS, Axis, Ceiling, Threshold, integer, parameter, per_channel
from seenn.core.ops.arguments import scale as check_scale
from seenn.core.ops.base import StatelessOp, register


class Activation(StatelessOp):
    """A pointwise function with a neuron that computes it; ``Neuron.activation()`` is the way back."""

    #: Its values may be below zero, so that only spikes of both signs can carry them.
    two_sided = False

    @property
    def monotone(self) -> bool:
        """Whether a larger input never has a smaller value, so that it commutes with a maximum."""
        return True

    def own_threshold(self, timesteps: int, max_spikes: int, *, signed: bool) -> Tensor | None:
        """The threshold of its neuron, scalar or ``[C]``; None where calibration has to choose one.

        Args:
            timesteps: T that is converted for.
            max_spikes: Γ.
            signed: whether the neuron may take back spikes.
        """
        return None

    @property
    def largest(self) -> float:
        """No output is above it: a range beyond would let through what the activation clips."""
        return math.inf

    @property
    def own_channel_axis(self) -> int | None:
        """The axis that its own values per channel are along; None where it has none."""
        return None

    def neuron_arguments(self) -> dict[str, Any]:
        """Keywords by which its neuron knows which activation it stands for."""
        return {}


@register("relu")
class ReLU(Activation):
    """``clip(x, 0, ceiling)``; ``ceiling`` None means none, 6 is ReLU6."""

    ceiling: Ceiling = None

    def neuron_arguments(self) -> dict[str, Any]:
        return {"ceiling": self.ceiling}

    @property
    def largest(self) -> float:
        return math.inf if self.ceiling is None else self.ceiling

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu() if self.ceiling is None else inputs[0].clamp(0.0, self.ceiling)


@register("identity")
class Identity(Activation):
    """``x``: a value that spikes carry to what multiplies it by weights, or by other spikes."""

    two_sided = True
    homogeneous = True

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


class Grid(NamedTuple):
    """The values of a quantiser: ``k · unit / steps`` for the integers k from ``low`` ≤ 0 to ``high`` ≥ 0."""

    unit: Tensor  # > 0, scalar or per channel [C], in the activation's unit
    steps: int
    low: int
    high: int


class Quantiser(Activation):
    """``s · clip(⌊x/s + ½⌋, low, high)``: quantised already, so that it brings its neuron's threshold with it.

    Over T steps, spikes of s·T tell its levels apart. A neuron that may take back spikes settles on exactly its value
    then, as soon as Γ spikes a step suffice (T·Γ ≥ high; You et al. 2024). Others are off by what comes unevenly, of
    which smaller spikes make less: θ = s·high/Γ. The floor is passed straight through in the backward pass.
    """

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """Its step size and limits."""

    @property
    @abstractmethod
    def own_channel_axis(self) -> int:
        """The channel axis of the input."""

    @property
    def two_sided(self) -> bool:  # type: ignore[override]
        return self.grid.low < 0

    def own_threshold(self, timesteps: int, max_spikes: int, *, signed: bool) -> Tensor:
        grid = self.grid
        least = max(-grid.low, grid.high) / max_spikes
        wanted = max(least, timesteps) if signed else least
        return grid.unit.detach() * (wanted / grid.steps)

    def needs_limits(self, v_threshold: Tensor, max_spikes: int) -> bool:
        """Whether Γ spikes of θ a step, and no fewer than none in all, say more than its values."""
        grid = self.grid
        most = grid.unit.detach() * (grid.high / grid.steps)
        return grid.low < 0 or bool((v_threshold * max_spikes > most * (1 + 1e-6)).any())

    def forward(self, *inputs: Tensor) -> Tensor:
        unit, *levels = self.grid
        x = inputs[0].to(unit.dtype)
        result: Tensor = _StraightThrough.apply(x, per_channel(unit, x, self.own_channel_axis), *levels)
        return result


@register("qcfs")
class QCFS(Quantiser):
    """``θ · clip(⌊x·L/θ + ½⌋ / L, 0, 1)``: quantisation, clip, floor, shift (Bu et al. 2022).

    What an integrate-and-fire neuron of threshold θ that starts at θ/2 emits on average over T = L steps of
    a constant current. θ learns too: dy/dx = 1 inside (0, θ) and 0 outside; dy/dθ = 1 above, (y − x)/θ inside, 0 below.

    Args:
        v_threshold: θ > 0 (λ in the paper), scalar or per channel ``[C]``, in the activation's unit.
        levels: L ≥ 1, the number of steps from 0 to θ.
        axis: channel axis of the input.
    """

    v_threshold: Threshold
    levels: Annotated[int, partial(integer, low=1, high=MOST_LEVELS)] = 4
    axis: Axis = 1

    @property
    def grid(self) -> Grid:
        return Grid(self.v_threshold, self.levels, 0, self.levels)

    @property
    def own_channel_axis(self) -> int:
        return self.axis

    def neuron_arguments(self) -> dict[str, Any]:
        return {"levels": self.levels}


@register("quantise")
class Quantise(Quantiser):
    """``s · clip(⌊x/s + ½⌋, low, high)`` with integer limits on both sides of zero, as LSQ and QAT train it.

    Args:
        scale: s > 0, scalar or per channel ``[C]``, in the activation's unit.
        low, high: ``−65535 ≤ low ≤ 0 ≤ high ≤ 65535``, not both 0. (With ``low`` = 0 it is a ``QCFS``.)
        axis: channel axis of the input.
    """

    scale: Threshold
    low: Annotated[int, partial(integer, low=-MOST_LEVELS, high=0)]
    high: Annotated[int, partial(integer, low=0, high=MOST_LEVELS)]
    axis: Axis = 1

    def __post_init__(self) -> None:
        if self.low == self.high:
            raise ValueError("a quantiser needs more than one level, got low = high = 0")

    @property
    def grid(self) -> Grid:
        return Grid(self.scale, 1, self.low, self.high)

    @property
    def own_channel_axis(self) -> int:
        return self.axis

    def neuron_arguments(self) -> dict[str, Any]:
        return {"scale": self.scale, "low": self.low, "high": self.high}


def quantiser(scale: float | Tensor, low: int, high: int, *, axis: int = 1) -> Quantiser:
    """The op for a quantiser of step size ``scale`` > 0, scalar or ``[C]``, and integer limits ``low ≤ 0 ≤ high``.

    Raises:
        ValueError: a scale that is not positive and finite, or limits that it cannot have.
    """
    step = check_scale("scale", scale, positive=True)
    if low == 0:
        return QCFS(step.detach() * high, levels=high, axis=axis)
    return Quantise(step, low, high, axis=axis)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, unit: Tensor, steps: int, low: int, high: int) -> Tensor:
        ctx.save_for_backward(x, unit)
        ctx.levels = steps, low, high
        return _rounded_(x / unit, steps, low, high).mul_(unit).div_(steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, unit), (steps, low, high) = ctx.saved_tensors, ctx.levels
        u = x / unit
        inside = (u > low / steps) & (u < high / steps)
        slope = _rounded_(u.clone(), steps, low, high).div_(steps).sub_(u.mul_(inside)).mul_(grads[0])
        return grads[0] * inside, slope.sum_to_size(unit.shape), None, None, None


def _rounded_(u: Tensor, steps: int, low: int, high: int) -> Tensor:
    """``clip(⌊u·steps + ½⌋, low, high)``, in place."""
    return u.mul_(steps).add_(0.5).floor_().clamp_(low, high)


@register("leaky_relu")
class LeakyReLU(Activation):
    """``x`` where x > 0, else ``slope · x``: LeakyReLU, and PReLU with a slope per channel, scalar or ``[C]``."""

    two_sided = True
    homogeneous = True
    slope: Annotated[Tensor, partial(parameter, dims=(0, 1))]

    @property
    def monotone(self) -> bool:
        return bool((self.slope >= 0).all())

    @property
    def own_channel_axis(self) -> int | None:
        return 1 if self.slope.dim() else None

    def neuron_arguments(self) -> dict[str, Any]:
        return {"slope": self.slope}

    def forward(self, *inputs: Tensor) -> Tensor:
        return functional.prelu(inputs[0], self.slope.reshape(-1).to(inputs[0].dtype))


def leaky_relu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where x > 0, else ``slope · x``; ``slope`` broadcasts to ``x``."""
    return torch.where(x > 0, x, slope * x)
