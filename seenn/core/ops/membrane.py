"""A binary neuron's membrane: how it charges and resets, one step at a time and over all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn import native
from seenn.native import unroll
from seenn.surrogate import Surrogate, fire


def soft_reset(v: Tensor, spike_count: Tensor, v_threshold: Tensor, *, in_place: bool = False) -> Tensor:
    """``v − n·θ``; ``in_place`` (without autograd) overwrites ``v``."""
    return torch.addcmul(v, spike_count, v_threshold, value=-1, out=v if in_place else None)


def cut_off(v: Tensor, v_threshold: Tensor) -> Tensor:
    """``clip(v, 0, θ)``: what a warm start keeps of a membrane."""
    return torch.minimum(v.clamp(min=0), v_threshold)


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
        v = torch.add(current, v, alpha=self.decay, out=v if in_place else None)
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

    One pass over the memory each way where there is compiled code for it.
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
        for t in range(len(currents)):
            u = torch.add(currents[t], v, alpha=membrane.decay)
            s = (u >= v_threshold).to(u.dtype)
            v = membrane.reset(u, s, v_threshold)
            outputs[t] = s.mul_(v_threshold)
            if charged is not None:
                charged[t] = u
        return outputs, last.copy_(v)

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
        grad_currents, carried = torch.empty_like(charged), grad_last  # c_t
        for t in range(len(charged) - 1, -1, -1):
            u, at_spikes, kept = charged[t], grad_outputs[t], carried
            g = ctx.surrogate.derivative_(u / v_threshold - 1)
            if membrane.v_reset is not None:
                kept = carried * (u < v_threshold)
                carried = carried * (u - membrane.v_reset) / v_threshold
            if not membrane.detach_reset:
                at_spikes = at_spikes - carried
            torch.addcmul(kept, g, at_spikes, out=grad_currents[t])
            carried = grad_currents[t] * membrane.decay
        return grad_currents, grad_first.copy_(carried), None, None, None


def _like(v: Tensor, currents: Tensor) -> Tensor:
    """An empty tensor of the shape and type of ``currents`` ``[T, B, ...]``, its samples laid out as ``v``'s are."""
    merged = torch.empty_like(v, dtype=currents.dtype).stride()
    shape = (len(currents), *v.shape)
    return torch.empty_strided(shape, (v.numel(), *merged), dtype=currents.dtype, device=currents.device)
