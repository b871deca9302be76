"""Activations of the analog network: the call sites that conversion turns into neurons."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from seenn.core.ops.arguments import Axis, Ceiling, Threshold, integer, parameter, per_channel
from seenn.core.ops.base import StatelessOp, register


class Activation(StatelessOp):
    """A pointwise function with a neuron that computes it; ``Neuron.activation()`` is the way back."""

    #: Its values may be below zero, so that only spikes of both signs can carry them.
    two_sided: ClassVar[bool] = False

    @property
    def monotone(self) -> bool:
        """Whether a larger input never has a smaller value, so that it commutes with a maximum."""
        return True

    @property
    def learned_threshold(self) -> Tensor | None:
        """The threshold that it was trained with, scalar or ``[C]``; None where calibration has to choose one."""
        return None

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

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].relu() if self.ceiling is None else inputs[0].clamp(0.0, self.ceiling)


@register("identity")
class Identity(Activation):
    """``x``: a value that spikes carry to what multiplies it by weights, or by other spikes."""

    two_sided = True
    homogeneous = True

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0]


@register("qcfs")
class QCFS(Activation):
    """``θ · clip(⌊x·L/θ + ½⌋ / L, 0, 1)``: quantisation, clip, floor, shift (Bu et al. 2022).

    What an integrate-and-fire neuron of threshold θ that starts at θ/2 emits on average over T = L steps of
    a constant current. The floor is passed straight through in the backward pass, so that θ learns too:
    dy/dx = 1 inside (0, θ) and 0 outside; dy/dθ = 1 above, (y − x)/θ inside, 0 below.

    Args:
        v_threshold: θ > 0 (λ in the paper), scalar or per channel ``[C]``, in the activation's unit.
        levels: L ≥ 1, the number of steps from 0 to θ.
        axis: channel axis of the input.
    """

    v_threshold: Threshold
    levels: Annotated[int, partial(integer, low=1, high=4096)] = 4
    axis: Axis = 1

    @property
    def learned_threshold(self) -> Tensor:
        return self.v_threshold.detach()

    @property
    def own_channel_axis(self) -> int:
        return self.axis

    def neuron_arguments(self) -> dict[str, Any]:
        return {"levels": self.levels}

    def forward(self, *inputs: Tensor) -> Tensor:
        x = inputs[0].to(self.v_threshold.dtype)
        v_threshold = per_channel(self.v_threshold, x, self.axis)
        result: Tensor = _StraightThrough.apply(x, v_threshold, self.levels)
        return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, v_threshold: Tensor, levels: int) -> Tensor:
        ctx.save_for_backward(x, v_threshold)
        ctx.levels = levels
        return _quantised_(x / v_threshold, levels).mul_(v_threshold).div_(levels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, v_threshold = ctx.saved_tensors
        u = x / v_threshold
        inside = (u > 0) & (u < 1)
        slope = _quantised_(u.clone(), ctx.levels).div_(ctx.levels).sub_(u.mul_(inside)).mul_(grads[0])
        return grads[0] * inside, slope.sum_to_size(v_threshold.shape), None


def _quantised_(u: Tensor, levels: int) -> Tensor:
    """``clip(⌊u·L + ½⌋, 0, L)``, in place."""
    return u.mul_(levels).add_(0.5).floor_().clamp_(0, levels)


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
        return leaky_relu(inputs[0], per_channel(self.slope, inputs[0]))


def leaky_relu(x: Tensor, slope: Tensor) -> Tensor:
    """``x`` where x > 0, else ``slope · x``; ``slope`` broadcasts to ``x``."""
    return torch.where(x > 0, x, slope * x)
