"""A binary neuron's membrane: how it charges and resets, one step at a time and over all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn import native
from seenn.native import unroll
from seenn.surrogate import Surrogate, fire

_CHUNK = 1 << 16  # elements of a membrane that are taken through time together: they stay in the cache


def soft_reset(v: Tensor, spike_count: Tensor, v_threshold: Tensor, *, in_place: bool = False) -> Tensor:
    """``v − n·θ``; ``in_place`` (without autograd) overwrites ``v``."""
    return torch.addcmul(v, spike_count, v_threshold, value=-1, out=v if in_place else None)


@dataclass(frozen=True, kw_only=True)
class Membrane:
    """The two rules of a membrane: ``v ← decay·v + x``, and after ``s`` spikes a reset.

    ::

        soft    v ← v − s·θ                        (v_reset is None)
        hard    v ← (1 − s)·v + s·v_reset
    """

    decay: float = 1.0  # 1 integrates, below 1 leaks
    v_reset: float | None = None  # in the unit of v; None subtracts the threshold instead
    detach_reset: bool = False  # gradients do not flow through the spikes of the reset

    def charge(self, v: Tensor, current: Tensor, *, in_place: bool = False) -> Tensor:
        """The membrane before it fires."""
        return torch.add(current, v, alpha=self.decay, out=v if in_place else None)

    def reset(self, v: Tensor, spike_count: Tensor, v_threshold: Tensor, *, in_place: bool = False) -> Tensor:
        """The membrane after it fired; a hard reset is for binary neurons."""
        if self.detach_reset:
            spike_count = spike_count.detach()
        if self.v_reset is None:
            return soft_reset(v, spike_count, v_threshold, in_place=in_place)
        v = torch.addcmul(v, spike_count, v, value=-1, out=v if in_place else None)
        return v if self.v_reset == 0.0 else v + spike_count * self.v_reset

    def step(
        self,
        v: Tensor,
        current: Tensor,
        v_threshold: Tensor,
        surrogate: Surrogate | None = None,
        *,
        in_place: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Charge, fire at most once, reset; ``(spike_count, v)``, all ``[B, C, ...]``.

        ``in_place`` (without autograd) overwrites ``v``.
        """
        v = self.charge(v, current, in_place=in_place)
        spike_count = fire(v, v_threshold, surrogate=surrogate)
        return spike_count, self.reset(v, spike_count, v_threshold, in_place=in_place)

    def compiled(self, v: Tensor, currents: Tensor, v_threshold: Tensor) -> unroll.Unroll | None:
        """Compiled code for membranes and currents that lie as these do; None where torch has to do it."""
        if v.dtype != torch.float32 or v.device.type != "cpu":
            return None
        made = unroll.plan(
            native.load("training"),
            v,
            v_threshold,
            decay=self.decay,
            v_reset=self.v_reset,
            detach_reset=self.detach_reset,
        )
        return made if made is not None and made.lies_alike(currents) else None

    def unroll(self, v: Tensor, currents: Tensor, v_threshold: Tensor, surrogate: Surrogate) -> tuple[Tensor, Tensor]:
        """``step`` over currents ``[T, B, ...]``: ``(outputs s·θ [T, B, ...], v)``; the threshold gets no gradient.

        The same spikes and the same gradients as step by step, with only the charged membranes kept for the
        backward pass. Currents may be of less than float32; membranes are not.
        """
        v = v.to(torch.promote_types(v.dtype, torch.float32))
        outputs, v = _Unrolled.apply(currents, v, v_threshold, self, surrogate)
        return outputs, v


class _Unrolled(torch.autograd.Function):
    """Backpropagation through time in closed form.

    With u_t the charged membrane, g = dH/dx at ``x = u/θ − 1``, ``y_t = s_t·θ`` and
    ``c_t = dL/dv_t = decay·dL/du_{t+1}``::

        dL/dx_t = dL/du_t = g·dL/dy_t + c_t·dv_t/du_t
        dv/du = 1 − g  (soft)      (1 − s) + (v_reset − u)·g/θ  (hard)      without the terms in g if detached

    Everything happens in place, on pieces of the batch that stay in the cache over all timesteps.
    """

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, v: Tensor, v_threshold: Tensor, membrane: Membrane, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        outputs = _like(v, currents)
        charged = torch.empty_like(outputs, dtype=v.dtype) if any(ctx.needs_input_grad) else None
        last = torch.empty_like(v)
        compiled = membrane.compiled(v, currents, v_threshold)
        if charged is not None:
            ctx.save_for_backward(charged, v_threshold)
            ctx.membrane, ctx.surrogate, ctx.compiled = membrane, surrogate, compiled
        if compiled is not None:
            compiled.forward(currents, v, outputs, charged, last)
            return outputs, last
        soft, unit = membrane.v_reset is None, _is_one(v_threshold)
        for rows, theta in _chunks(v, v_threshold):
            now, after = v[rows], last[rows]
            scratch = torch.empty_like(now) if charged is None else now
            for t in range(len(currents)):
                u = scratch if charged is None else charged[t, rows]
                s = outputs[t, rows]
                torch.add(currents[t, rows], now, alpha=membrane.decay, out=u)
                torch.ge(u, theta, out=s)
                torch.addcmul(u, s, theta if soft else u, value=-1, out=after)
                if membrane.v_reset:
                    after.add_(s, alpha=membrane.v_reset)
                if not unit:
                    s.mul_(theta)
                now = after
        return outputs, last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_outputs, grad_last = grads
        charged, v_threshold = ctx.saved_tensors
        membrane: Membrane = ctx.membrane
        grad_first = torch.empty_like(charged[0])
        compiled: unroll.Unroll | None = ctx.compiled
        if compiled is not None and unroll.knows(ctx.surrogate):
            last = grad_last if compiled.lies_alike(grad_last[None]) else grad_first.copy_(grad_last)
            grad_currents = torch.empty_like(charged, dtype=grad_outputs.dtype)
            alike = compiled.lies_alike(grad_outputs)
            own = grad_outputs if alike else torch.empty_like(grad_currents).copy_(grad_outputs)
            compiled.backward(charged, own, last, ctx.surrogate, grad_currents, grad_first)
            return grad_currents, grad_first, None, None, None
        grad_currents = torch.empty_like(charged)
        detach, unit = membrane.detach_reset, _is_one(v_threshold)
        for rows, theta in _chunks(grad_last, v_threshold):
            carried = grad_first[rows].copy_(grad_last[rows])  # c_t
            g, through = torch.empty_like(carried), torch.empty_like(carried)
            for t in range(len(charged) - 1, -1, -1):
                u, own, result = charged[t, rows], grad_outputs[t, rows], grad_currents[t, rows]
                torch.sub(u, theta, out=g)
                ctx.surrogate.derivative_(g if unit else g.div_(theta))
                if membrane.v_reset is None:  # g·(dL/dy − c) + c
                    torch.addcmul(carried, g, own if detach else torch.sub(own, carried, out=through), out=result)
                else:  # g·(dL/dy − c·(u − v_reset)/θ) + c·(1 − s)
                    if not detach:
                        above = u if not membrane.v_reset else torch.sub(u, membrane.v_reset, out=through)
                        torch.mul(carried, above, out=through)
                        own = torch.sub(own, through if unit else through.div_(theta), out=through)
                    torch.lt(u, theta, out=result)
                    result.mul_(carried).addcmul_(g, own)
                torch.mul(result, membrane.decay, out=carried)
        return grad_currents, grad_first, None, None, None


def _like(v: Tensor, currents: Tensor) -> Tensor:
    """An empty tensor of the shape and type of ``currents`` ``[T, B, ...]``, its samples laid out as ``v``'s are."""
    merged = torch.empty_like(v, dtype=currents.dtype).stride()
    shape = (len(currents), *v.shape)
    return torch.empty_strided(shape, (v.numel(), *merged), dtype=currents.dtype, device=currents.device)


def _is_one(v_threshold: Tensor) -> bool:
    return v_threshold.dim() == 0 and float(v_threshold) == 1.0


def _chunks(v: Tensor, v_threshold: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of ``v`` in pieces that stay in the cache over all timesteps, with the threshold of each piece."""
    rows = max(1, _CHUNK * len(v) // max(1, v.numel()))
    whole = v_threshold.expand_as(v) if v_threshold.dim() else v_threshold
    for start in range(0, len(v), rows):
        piece = slice(start, start + rows)
        yield piece, whole[piece] if whole.dim() else whole
