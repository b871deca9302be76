"""One step of integrate-and-fire as a single autograd node: what training over time spends its time on.

The same rule and the same surrogate gradient as ``if_step`` and ``signed_if_step``, whose five elementwise
operations autograd would record one by one, each with temporaries of its own. Here the step keeps one tensor
for the backward pass, u = v/θ, and works through the batch in blocks that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from seenn import native
from seenn.native import step
from seenn.native.memory import Layout

_BLOCK = 1 << 18  # elements


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
        u, output, after = torch.empty_like(v), torch.empty_like(v, dtype=current.dtype), torch.empty_like(v)
        net_after = None if net_count is None else torch.empty_like(v)
        compiled = _compiled(v, current, v_threshold, max_spikes)
        if compiled is not None:
            net_count = _alike(v, net_count, compiled.layout)
            compiled.forward(v, current, net_count, output, u, after, net_after)
        else:
            for rows in _blocks(v):
                w = torch.add(v[rows], current[rows], out=after[rows])
                torch.div(w, v_threshold, out=u[rows])
                count = torch.floor(u[rows])
                if net_count is None or net_after is None:
                    count.clamp_(0, max_spikes)
                else:
                    net = torch.add(count.clamp_(-max_spikes, max_spikes), net_count[rows], out=net_after[rows])
                    torch.sub(net.clamp_min_(0), net_count[rows], out=count)
                w.sub_(count.mul_(v_threshold))
                output[rows] = count
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
        at_w, at_threshold = torch.empty_like(u), torch.zeros_like(v_threshold)
        for rows in _blocks(u):
            ub = u[rows]
            difference = _difference(at_output, at_v, rows)
            count = ub.floor().clamp_(0 if net_count is None else -ctx.max_spikes, ctx.max_spikes)
            above = ub
            if net_count is not None:
                count = torch.maximum(count, -net_count[rows])
                above = ub + net_count[rows].clamp(max=ctx.max_spikes)
            slope = torch.minimum(above, ctx.max_spikes + 1 - ub).clamp_(0.0, 1.0)
            at_threshold += count.addcmul_(slope, ub, value=-1).mul_(difference).sum_to_size(v_threshold.shape)
            torch.mul(difference, slope, out=at_w[rows])
            if at_v is not None:
                at_w[rows] += at_v[rows]
        return at_w, at_w, at_threshold, None, None


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


def _difference(at_output: Tensor | None, at_v: Tensor | None, rows: slice) -> Tensor:
    if at_output is None:
        assert at_v is not None
        return at_v[rows].neg()
    return at_output[rows] if at_v is None else at_output[rows] - at_v[rows]


def _blocks(like: Tensor) -> Iterator[slice]:
    """Consecutive rows, about ``_BLOCK`` elements at a time."""
    step = max(1, _BLOCK * len(like) // max(1, like.numel()))
    return (slice(start, start + step) for start in range(0, len(like), step))
