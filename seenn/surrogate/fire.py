"""Firing with a gradient: the forward pass counts spikes exactly, the backward pass uses a surrogate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seenn.surrogate.shapes import Surrogate


def fire(
    v: Tensor,
    v_threshold: Tensor,
    net_count: Tensor | None = None,
    max_spikes: int = 1,
    surrogate: Surrogate | None = None,
) -> Tensor:
    """Spikes of one step: ``clip(⌊v/θ⌋, −min(Γ, S), Γ)``.

    Args:
        v: membrane potential after charging, ``[B, C, ...]``.
        v_threshold: θ, broadcastable to ``v``.
        net_count: S, the spikes that may be taken back; None for unsigned neurons (S = 0).
        max_spikes: Γ.
        surrogate: of a binary neuron's spike (S = 0, Γ = 1); None is one triangle (γ = 1) at every level.
    """
    u = v / v_threshold
    if not (torch.is_grad_enabled() and u.requires_grad):
        return count_(u, net_count, max_spikes)
    if surrogate is None:
        result: Tensor = _FireTrapezoid.apply(u, net_count, max_spikes)
    else:
        result = _FireBinary.apply(u, surrogate)
    return result


def count_(u: Tensor, net_count: Tensor | None, max_spikes: int) -> Tensor:
    """The spikes at u = v/θ, in place on it and without a temporary."""
    if net_count is None:
        return u.floor_().clamp_(0, max_spikes)
    return u.floor_().clamp_(-max_spikes, max_spikes).add_(net_count).clamp_min_(0).sub_(net_count)


def trapezoid(u: Tensor, net_count: Tensor | None, max_spikes: int) -> Tensor:
    """``dn/du = clip(min(u − lower, Γ + 1 − u), 0, 1)`` with u = v/θ, lower = −min(Γ, S).

    One triangle of half-width 1 sits on every firing level; their sum is this trapezoid, and for binary
    neurons the triangle surrogate (γ = 1) of the direct-training literature.
    """
    above = u if net_count is None else u + net_count.clamp(max=max_spikes)
    return torch.minimum(above, max_spikes + 1 - u).clamp_(0.0, 1.0)


class _FireTrapezoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, net_count: Tensor | None, max_spikes: int) -> Tensor:
        ctx.save_for_backward(u, net_count)
        ctx.max_spikes = max_spikes
        return count_(u.clone(), net_count, max_spikes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        u, net_count = ctx.saved_tensors
        return grads[0] * trapezoid(u, net_count, ctx.max_spikes), None, None


class _FireBinary(torch.autograd.Function):
    """Backward: the surrogate's derivative at ``x = u − 1``."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return count_(u.clone(), None, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative_(u - 1), None
