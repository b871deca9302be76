"""One step of integrate-and-fire as a single autograd node: what training over time spends its time on.

The same rule and the same surrogate gradient as ``if_step`` and ``signed_if_step``, whose five elementwise
operations autograd would record one by one, each with temporaries of its own. Here the step keeps one tensor
for the backward pass, u = v/θ, and is one pass over the memory where there is compiled code for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seenn import native
from seenn.native import step
from seenn.native.memory import Layout
from seenn.surrogate.fire import count_, trapezoid


def fused_if_step(
    v: Tensor, current: Tensor, v_threshold: Tensor, net_count: Tensor | None, max_spikes: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Charge, fire, emit and reset; ``(output = spike_count · θ, v, net_count)``, differentiable.

    With w = v + x, u = w/θ, n the spikes, and s = dn/du the surrogate of ``seenn.surrogate``::

        output = n·θ        v' = w − n·θ
        d/dw = v̄' + (ō − v̄')·s        d/dθ = (ō − v̄')·(n − s·u)

    where ō and v̄' are the gradients that arrive at the output and the membrane.

    Args:
        v: membrane before the step, ``[B, C, ...]``.
        current: x, of the same shape; the output has its type, the membrane at least float32.
        v_threshold: θ, broadcastable to ``v``.
        net_count: S of a signed neuron, None for an unsigned one.
        max_spikes: Γ.
    """
    v = v.to(torch.promote_types(v.dtype, torch.float32))
    if net_count is None:
        output, v = _Step.apply(v, current, v_threshold, None, max_spikes)
        return output, v, None
    result: tuple[Tensor, Tensor, Tensor] = _Step.apply(v, current, v_threshold, net_count, max_spikes)
    return result


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, v: Tensor, current: Tensor, v_threshold: Tensor, net_count: Tensor | None, max_spikes: int
    ) -> tuple[Tensor, ...]:
        compiled = _compiled(v, current, v_threshold, max_spikes)
        net_after = None if net_count is None else torch.empty_like(v)
        if compiled is not None:
            u, output, after = torch.empty_like(v), torch.empty_like(v, dtype=current.dtype), torch.empty_like(v)
            net_count = _alike(v, net_count, compiled.layout)
            compiled.forward(v, current, net_count, output, u, after, net_after)
        else:
            after = v + current
            u = after / v_threshold
            count = count_(u.clone(), net_count, max_spikes)
            net_after = None if net_count is None else net_count + count
            after -= count.mul_(v_threshold)
            output = count.to(current.dtype)
        ctx.save_for_backward(u, v_threshold, net_count)
        ctx.max_spikes, ctx.dtype, ctx.compiled = max_spikes, current.dtype, compiled
        ctx.set_materialize_grads(False)
        if net_after is None:
            return output, after
        ctx.mark_non_differentiable(net_after)
        return output, after, net_after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        u, v_threshold, net_count = ctx.saved_tensors
        at_output, at_v = grads[0], grads[1]
        if at_output is None and at_v is None:
            return None, None, None, None, None
        compiled: step.Step | None = ctx.compiled
        if compiled is not None:
            at_output, at_v = (_alike(u, gradient, compiled.layout) for gradient in (at_output, at_v))
            at_v, at_current, summed = compiled.backward(at_output, at_v, u, net_count, ctx.dtype)
            return at_v, at_current, summed.sum_to_size(v_threshold.numel()).view_as(v_threshold), None, None
        at_output, at_v = (torch.zeros_like(u) if gradient is None else gradient for gradient in (at_output, at_v))
        difference, slope = at_output - at_v, trapezoid(u, net_count, ctx.max_spikes)
        at_threshold = (count_(u.clone(), net_count, ctx.max_spikes) - slope * u).mul_(difference)
        at_w = difference.mul_(slope).add_(at_v)
        return at_w, at_w, at_threshold.sum_to_size(v_threshold.shape), None, None


def _compiled(v: Tensor, current: Tensor, v_threshold: Tensor, max_spikes: int) -> step.Step | None:
    """Compiled code for membranes and currents that lie as these do; None where torch has to do it."""
    if v.dtype != torch.float32:
        return None
    made = step.plan(native.load("training"), v, v_threshold, max_spikes)
    return made if made is not None and made.layout.fits(current) else None


def _alike(v: Tensor, other: Tensor | None, layout: Layout) -> Tensor | None:
    """``other``, lying as ``v`` does."""
    if other is None or layout.fits(other):
        return other
    return torch.empty_like(v, dtype=other.dtype).copy_(other)
