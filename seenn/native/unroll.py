"""A binary neuron's membrane through all timesteps in one pass over its memory, forwards and backwards."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.native.memory import Layout, struct
from seenn.surrogate import Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle

_TRIANGLE, _RECTANGLE, _ARCTAN, _LOGISTIC = range(4)


_Forward = struct(
    "_Forward",
    pointers="currents first threshold outputs charged last",
    sizes="timesteps groups period stride",
    floats="decay v_reset",
    integers="hard narrow threads",
)
_Backward = struct(
    "_Backward",
    pointers="grad_outputs charged grad_last threshold grad_currents grad_first",
    sizes="timesteps groups period stride",
    floats="decay v_reset a b region",
    integers="hard detach surrogate narrow threads",
)


@dataclass(frozen=True)
class Unroll:
    """One site's rules, and how its samples lie in memory. Made by ``plan``."""

    library: ctypes.CDLL
    layout: Layout
    decay: float
    v_reset: float | None
    detach_reset: bool

    def forward(self, currents: Tensor, first: Tensor, outputs: Tensor, charged: Tensor | None, last: Tensor) -> None:
        """Fills ``outputs``, of the currents' type, and ``charged`` ``[T, B, …]``, and ``last``."""
        self._run(
            self.library.seenn_unroll,
            _Forward,
            currents,
            currents=self._steps(currents, currents.dtype),
            first=self._one(first),
            outputs=self._steps(outputs, currents.dtype),
            charged=None if charged is None else self._steps(charged),
            last=self._one(last),
        )

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
        kind, a, b, region = _parameters(surrogate)
        self._run(
            self.library.seenn_unroll_backward,
            _Backward,
            grad_outputs,
            charged=self._steps(charged),
            grad_outputs=self._steps(grad_outputs, grad_outputs.dtype),
            grad_last=self._one(grad_last),
            grad_currents=self._steps(grad_currents, grad_outputs.dtype),
            grad_first=self._one(grad_first),
            a=a,
            b=b,
            region=region,
            detach=self.detach_reset,
            surrogate=kind,
        )

    def lies_alike(self, values: Tensor) -> bool:
        """Whether ``[T, B, …]`` can be read, step by step."""
        return self.layout.fits(values[0])

    def _run(
        self, function: object, kind: type[ctypes.Structure], over_time: Tensor, **arguments: float | int | None
    ) -> None:
        assert callable(function)
        work = kind(
            threshold=self.layout.pattern.data_ptr(),
            timesteps=len(over_time),
            groups=over_time[0].numel() // len(self.layout.pattern),
            period=len(self.layout.pattern),
            stride=over_time.stride(0),
            decay=self.decay,
            v_reset=self.v_reset or 0.0,
            hard=self.v_reset is not None,
            narrow=over_time.dtype == torch.bfloat16,
            threads=torch.get_num_threads(),
            **arguments,
        )
        function(ctypes.byref(work))

    def _steps(self, values: Tensor, dtype: torch.dtype = torch.float32) -> int | None:
        return self.layout.address(values[0], dtype)

    def _one(self, values: Tensor) -> int | None:
        return self.layout.address(values)


def plan(
    library: ctypes.CDLL | None,
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
    return type(surrogate) in (Triangle, Rectangle, Arctan, Sigmoid, Dspike)


def _parameters(surrogate: Surrogate) -> tuple[int, float, float, float]:
    if isinstance(surrogate, Triangle):
        return _TRIANGLE, surrogate.gamma**-2, 1 / surrogate.gamma, math.inf
    if isinstance(surrogate, Rectangle):
        return _RECTANGLE, 1 / surrogate.width, surrogate.width / 2, math.inf
    if isinstance(surrogate, Arctan):
        return _ARCTAN, surrogate.alpha / 2, math.pi / 2 * surrogate.alpha, math.inf
    if isinstance(surrogate, Dspike):
        rise = 2 * surrogate.k
        return _LOGISTIC, rise / math.tanh(surrogate.k * surrogate.region), rise, surrogate.region
    assert isinstance(surrogate, Sigmoid)
    return _LOGISTIC, surrogate.alpha, surrogate.alpha, math.inf


def does_what_torch_does(library: ctypes.CDLL) -> bool:
    """Tries two steps of every surrogate and reset on some membranes."""
    generator = torch.Generator().manual_seed(0)
    theta, decay = torch.tensor([0.5, 1.0, 2.0]), 0.5
    currents = torch.randn(2, 5, 3, generator=generator)
    first, at_outputs, at_last = (torch.randn(*shape, generator=generator) for shape in ((5, 3), (2, 5, 3), (5, 3)))
    for surrogate in (Triangle(gamma=2.0), Rectangle(), Arctan(), Sigmoid(), Dspike()):
        for v_reset in (None, -0.25):
            made = plan(library, first, theta, decay=decay, v_reset=v_reset, detach_reset=False)
            assert made is not None
            outputs, charged, last = torch.empty_like(currents), torch.empty_like(currents), torch.empty_like(first)
            made.forward(currents, first, outputs, charged, last)
            found, at_first = torch.empty_like(currents), torch.empty_like(first)
            made.backward(charged, at_outputs, at_last, surrogate, found, at_first)
            v, carried, slopes, spikes = first, at_last, [], []
            for t in range(2):
                u = torch.add(currents[t], v, alpha=decay)
                spikes.append((u >= theta).float())
                slopes.append(surrogate.derivative_(u / theta - 1))
                v = u - spikes[t] * (theta if v_reset is None else u - v_reset)
                if not (torch.allclose(charged[t], u) and torch.equal(outputs[t], spikes[t] * theta)):
                    return False
            if not torch.allclose(last, v):
                return False
            for t in (1, 0):
                through = carried if v_reset is None else carried * (charged[t] - v_reset) / theta
                passed = carried if v_reset is None else carried * (1 - spikes[t])
                expected = slopes[t] * (at_outputs[t] - through) + passed
                carried = decay * expected
                if not torch.allclose(found[t], expected, rtol=1e-4, atol=1e-6):
                    return False
            if not torch.allclose(at_first, carried, rtol=1e-4, atol=1e-6):
                return False
    return True
