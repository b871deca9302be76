"""One step of integrate-and-fire in training, in one pass over its memory each way."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.native.memory import Layout, struct

_PARTS = 64  # sums of a threshold's gradient, whatever the number of threads: the result does not depend on it

_Forward = struct(
    "_Forward",
    pointers="v net threshold current output u after net_after",
    sizes="groups period",
    floats="most",
    integers="narrow threads",
)
_Backward = struct(
    "_Backward",
    pointers="at_output at_after u net threshold at_v at_current at_threshold",
    sizes="groups period parts",
    floats="most",
    integers="narrow threads",
)


@dataclass(frozen=True)
class Step:
    """How one site's samples lie in memory. Made by ``plan``."""

    library: ctypes.CDLL
    layout: Layout
    max_spikes: int

    def forward(
        self,
        v: Tensor,
        current: Tensor,
        net_count: Tensor | None,
        output: Tensor,
        u: Tensor,
        after: Tensor,
        net_after: Tensor | None,
    ) -> None:
        """Fills ``output``, of the current's type, ``u``, ``after`` and ``net_after``."""
        at = self.layout.address
        self._run(
            self.library.seenn_step,
            _Forward,
            v,
            v=at(v),
            net=at(net_count),
            current=at(current, current.dtype),
            output=at(output, current.dtype),
            u=at(u),
            after=at(after),
            net_after=at(net_after),
            narrow=current.dtype == torch.bfloat16,
        )

    def backward(
        self, at_output: Tensor | None, at_after: Tensor | None, u: Tensor, net_count: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients at v, at the current (of type ``dtype``) and at the pattern of thresholds."""
        at, narrow = self.layout.address, dtype == torch.bfloat16
        at_v = torch.empty_like(u)
        at_current = torch.empty_like(u, dtype=dtype) if narrow else at_v
        sums = torch.zeros(_PARTS, len(self.layout.pattern))
        self._run(
            self.library.seenn_step_backward,
            _Backward,
            u,
            at_output=at(at_output, dtype),
            at_after=at(at_after),
            u=at(u),
            net=at(net_count),
            at_v=at(at_v),
            at_current=at(at_current, dtype) if narrow else None,
            at_threshold=sums.data_ptr(),
            parts=_PARTS,
            narrow=narrow,
        )
        return at_v, at_current, sums.sum(0)

    def _run(
        self, function: object, kind: type[ctypes.Structure], batch: Tensor, **arguments: float | int | None
    ) -> None:
        assert callable(function)
        pattern = self.layout.pattern
        work = kind(
            threshold=pattern.data_ptr(),
            groups=batch.numel() // len(pattern),
            period=len(pattern),
            most=self.max_spikes,
            threads=torch.get_num_threads(),
            **arguments,
        )
        function(ctypes.byref(work))


def plan(library: ctypes.CDLL | None, v: Tensor, v_threshold: Tensor, max_spikes: int) -> Step | None:
    """How a step on membranes ``v`` ``[B, …]`` is run; None where torch has to do it."""
    layout = None if library is None else Layout.of(v, v_threshold)
    if library is None or layout is None or not layout.per_channel:
        return None
    return Step(library, layout, max_spikes)


def does_what_torch_does(library: ctypes.CDLL) -> bool:
    """Tries a step of unsigned and signed neurons."""
    generator = torch.Generator().manual_seed(0)
    v, current, at_output, at_after = (2 * torch.randn(6, 3, generator=generator) for _ in range(4))
    theta, most = torch.tensor([0.5, 1.0, 2.0]), 2
    for net in (None, torch.randint(0, 4, (6, 3), generator=generator).float()):
        made = plan(library, v, theta, most)
        assert made is not None
        output, u, after = (torch.empty_like(v) for _ in range(3))
        left = None if net is None else torch.empty_like(v)
        made.forward(v, current, net, output, u, after, left)
        at_v, at_current, at_theta = made.backward(at_output, at_after, u, net, torch.float32)
        charged = v + current
        scaled = charged / theta
        count = scaled.floor().clamp(0 if net is None else -most, most)
        count = count if net is None else torch.maximum(count, -net)
        above = scaled if net is None else scaled + net.clamp(max=most)
        slope = torch.minimum(above, most + 1 - scaled).clamp(0, 1)
        difference = at_output - at_after
        same = torch.equal(output, count * theta) and torch.allclose(after, charged - count * theta)
        kept = net is None or (left is not None and torch.equal(left, net + count))
        gradients = torch.allclose(at_v, difference * slope + at_after, rtol=1e-4, atol=1e-6) and at_current is at_v
        expected = (difference * (count - slope * scaled)).sum(0)
        if not (same and kept and gradients and torch.allclose(at_theta, expected, rtol=1e-4, atol=1e-5)):
            return False
    return True
