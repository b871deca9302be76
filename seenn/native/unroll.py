"""A binary neuron's membrane through all timesteps in one pass over its memory, forwards and backwards."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import Layout, close, run, struct
from seenn.surrogate import Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle, fire

#: What the compiled derivative of each surrogate is given: its number in the C code, a, b and the region.
_DERIVATIVES: dict[type, Callable[[Any], tuple[int, float, float, float]]] = {
    Triangle: lambda s: (0, s.gamma**-2, 1 / s.gamma, math.inf),
    Rectangle: lambda s: (1, 1 / s.width, s.width / 2, math.inf),
    Arctan: lambda s: (2, s.alpha / 2, math.pi / 2 * s.alpha, math.inf),
    Sigmoid: lambda s: (3, s.alpha, s.alpha, math.inf),
    Dspike: lambda s: (3, 2 * s.k / math.tanh(s.k * s.region), 2 * s.k, s.region),
}

_Forward = struct(
    "seenn_unroll",
    pointers="currents first threshold outputs charged last",
    sizes="timesteps groups period stride",
    floats="decay v_reset",
    integers="hard narrow threads",
    narrow="currents outputs",
)
_Backward = struct(
    "seenn_unroll_backward",
    pointers="grad_outputs charged grad_last threshold grad_currents grad_first",
    sizes="timesteps groups period stride",
    floats="decay v_reset a b region",
    integers="hard detach surrogate narrow threads",
    narrow="grad_outputs grad_currents",
)


@dataclass(frozen=True)
class Unroll:
    """One site's rules, and how its samples lie in memory. Made by ``plan``."""

    library: Library
    layout: Layout
    decay: float
    v_reset: float | None
    detach_reset: bool

    def forward(self, currents: Tensor, first: Tensor, outputs: Tensor, charged: Tensor | None, last: Tensor) -> None:
        """Fills ``outputs``, of the currents' type, and ``charged`` ``[T, B, …]``, and ``last``."""
        pattern = self.layout.pattern.data_ptr()
        self._run(_Forward, currents, currents, first, pattern, outputs, charged, last)

    def backward(
        self,
        charged: Tensor,
        grad_outputs: Tensor,
        grad_last: Tensor,
        surrogate: Surrogate,
        grad_currents: Tensor,
        grad_first: Tensor,
    ) -> None:
        """Fills ``grad_currents`` ``[T, B, …]``, of the type of ``grad_outputs``, and ``grad_first``."""
        kind, a, b, region = _DERIVATIVES[type(surrogate)](surrogate)
        pattern = self.layout.pattern.data_ptr()
        pointers = (grad_outputs, charged, grad_last, pattern, grad_currents, grad_first)
        rules = {"a": a, "b": b, "region": region, "detach": self.detach_reset, "surrogate": kind}
        self._run(_Backward, grad_outputs, *pointers, **rules)

    def lies_alike(self, values: Tensor) -> bool:
        """Whether ``[T, B, …]`` can be read, step by step."""
        return self.layout.fits(values[0])

    def _run(
        self, function: type[ctypes.Structure], over_time: Tensor, *pointers: Tensor | int | None, **numbers: float
    ) -> None:
        run(
            self.library,
            function,
            over_time.dtype,
            self._address,
            *pointers,
            timesteps=len(over_time),
            groups=over_time[0].numel() // len(self.layout.pattern),
            period=len(self.layout.pattern),
            stride=over_time.stride(0),
            decay=self.decay,
            v_reset=self.v_reset or 0.0,
            hard=self.v_reset is not None,
            **numbers,
        )

    def _address(self, values: Tensor, dtype: torch.dtype) -> int | None:
        """Of ``[B, …]``, or of the first step of ``[T, B, …]``."""
        return self.layout.address(values if values.dim() == len(self.layout.order) else values[0], dtype)


def plan(
    library: Library | None,
    first: Tensor,
    v_threshold: Tensor,
    *,
    decay: float,
    v_reset: float | None,
    detach_reset: bool,
) -> Unroll | None:
    """How membranes ``first`` ``[B, …]`` run through time; None where torch has to do it."""
    layout = None if library is None else Layout.of(first, v_threshold)
    return None if library is None or layout is None else Unroll(library, layout, decay, v_reset, detach_reset)


def knows(surrogate: Surrogate) -> bool:
    """Whether this code has its derivative; of others torch has to compute it."""
    return type(surrogate) in _DERIVATIVES


def matches_torch(library: Library) -> bool:
    """Tries two steps of every surrogate and reset on some membranes."""
    generator = torch.Generator().manual_seed(0)
    theta, decay = torch.tensor([0.5, 1.0, 2.0]), 0.5
    currents, at_outputs = (torch.randn(2, 5, 3, generator=generator) for _ in range(2))
    first, at_last = (torch.randn(5, 3, generator=generator) for _ in range(2))
    for surrogate in (Triangle(gamma=2.0), Rectangle(), Arctan(), Sigmoid(), Dspike()):
        for v_reset in (None, -0.25):
            made = plan(library, first, theta, decay=decay, v_reset=v_reset, detach_reset=False)
            assert made is not None
            outputs, charged, grad_currents = (torch.empty_like(currents) for _ in range(3))
            last, grad_first = torch.empty_like(first), torch.empty_like(first)
            made.forward(currents, first, outputs, charged, last)
            made.backward(charged, at_outputs, at_last, surrogate, grad_currents, grad_first)
            inputs = currents.clone().requires_grad_(), first.clone().requires_grad_()
            v, spikes = inputs[1], []
            for current in inputs[0]:
                u = torch.add(current, v, alpha=decay)
                spikes.append(fire(u, theta, surrogate=surrogate))
                v = u - spikes[-1] * (theta if v_reset is None else u - v_reset)
            y = torch.stack(spikes) * theta
            gradients = torch.autograd.grad((y, v), inputs, (at_outputs, at_last))
            if not close((outputs, last, grad_currents, grad_first), (y, v, *gradients)):
                return False
    return True
