"""A binary neuron's membrane through all timesteps in one pass over its memory, forwards and backwards."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.native.memory import address
from seenn.surrogate import Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle

_TRIANGLE, _RECTANGLE, _ARCTAN, _LOGISTIC = range(4)


def _struct(name: str, pointers: str, sizes: str, floats: str, integers: str) -> type[ctypes.Structure]:
    kinds = ((pointers, ctypes.c_void_p), (sizes, ctypes.c_int64), (floats, ctypes.c_float), (integers, ctypes.c_int32))
    fields = [(field, kind) for names, kind in kinds for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Forward = _struct(
    "_Forward",
    "currents first threshold outputs charged last",
    "timesteps groups period stride",
    "decay v_reset",
    "hard narrow threads",
)
_Backward = _struct(
    "_Backward",
    "grad_outputs charged grad_last threshold grad_currents grad_first",
    "timesteps groups period stride",
    "decay v_reset a b region",
    "hard detach surrogate narrow threads",
)


@dataclass(frozen=True)
class Unroll:
    """The memory of one site's samples in the order in which it lies, and the thresholds in that order.

    Made by ``plan``, which knows when this code can be used at all.
    """

    library: ctypes.CDLL
    order: tuple[int, ...]  # the axes of a batch of samples as they lie
    pattern: Tensor  # thresholds; what they repeat with is its length
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
        """Whether ``[T, B, …]`` can be read: float32 or bfloat16, and dense within each step in this order."""
        if values.dtype not in (torch.float32, torch.bfloat16) or values.device.type != "cpu":
            return False
        return values[0].permute(self.order).is_contiguous()

    def _run(
        self, function: object, kind: type[ctypes.Structure], over_time: Tensor, **arguments: float | int | None
    ) -> None:
        assert callable(function)
        work = kind(
            threshold=address(self.pattern, torch.float32, dense=True),
            timesteps=len(over_time),
            groups=over_time[0].numel() // len(self.pattern),
            period=len(self.pattern),
            stride=over_time.stride(0),
            decay=self.decay,
            v_reset=self.v_reset or 0.0,
            hard=self.v_reset is not None,
            narrow=over_time.dtype == torch.bfloat16,
            threads=torch.get_num_threads(),
            **arguments,
        )
        function(ctypes.byref(work))

    def _steps(self, values: Tensor, dtype: torch.dtype = torch.float32) -> int:
        return address(values, dtype, dense=self.lies_alike(values))

    def _one(self, values: Tensor) -> int:
        return self._steps(values[None])


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
    if library is None or first.dtype != torch.float32 or first.numel() == 0 or first.dim() < 2:
        return None
    strides = first.stride()
    order = (0, *sorted(range(1, first.dim()), key=lambda axis: (-strides[axis], axis)))
    threshold = v_threshold.detach().to(torch.float32)
    innermost = order[-1] - first.dim()
    if threshold.numel() == 1:
        pattern = threshold.reshape(1).expand(first.shape[order[-1]])
    elif threshold.dim() >= -innermost and threshold.numel() == threshold.shape[innermost]:
        pattern = threshold.flatten()
    else:
        pattern = threshold.expand(first.shape)[0].permute([axis - 1 for axis in order[1:]]).flatten()
    made = Unroll(library, order, pattern.contiguous(), decay, v_reset, detach_reset)
    return made if made.lies_alike(first[None]) else None


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
