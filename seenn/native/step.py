"""One step of integrate-and-fire in training, in one pass over its memory each way."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import Layout, close, run, struct
from seenn.surrogate import fire

_PARTS = 64  # sums of a threshold's gradient, whatever the number of threads: the result does not depend on it

_Forward = struct(
    "seenn_step",
    pointers="v net threshold current output u after net_after",
    sizes="groups period",
    floats="most",
    integers="narrow threads",
    narrow="current output",
)
_Backward = struct(
    "seenn_step_backward",
    pointers="grad_output grad_after u net threshold grad_v grad_current grad_threshold",
    sizes="groups period parts",
    floats="most",
    integers="narrow threads",
    narrow="grad_output grad_current",
)


@dataclass(frozen=True)
class Step:
    """How one site's samples lie in memory. Made by ``plan``."""

    library: Library
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
        pattern = self.layout.pattern.data_ptr()
        self._run(_Forward, current.dtype, v, v, net_count, pattern, current, output, u, after, net_after)

    def backward(
        self,
        grad_output: Tensor | None,
        grad_after: Tensor | None,
        u: Tensor,
        net_count: Tensor | None,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients at v, at the current (of type ``dtype``) and at the pattern of thresholds."""
        grad_v = torch.empty_like(u)
        separate = torch.empty_like(u, dtype=dtype) if dtype == torch.bfloat16 else None
        pattern = self.layout.pattern
        sums = torch.zeros(_PARTS, len(pattern))
        arrived, found = (
            (grad_output, grad_after, u, net_count, pattern.data_ptr()),
            (grad_v, separate, sums.data_ptr()),
        )
        self._run(_Backward, dtype, u, *arrived, *found, parts=_PARTS)
        return grad_v, grad_v if separate is None else separate, sums.sum(0)

    def _run(
        self,
        function: type[ctypes.Structure],
        dtype: torch.dtype,
        batch: Tensor,
        *pointers: Tensor | int | None,
        **numbers: float,
    ) -> None:
        period = len(self.layout.pattern)
        sizes = {"groups": batch.numel() // period, "period": period, "most": self.max_spikes}
        run(self.library, function, dtype, self.layout.address, *pointers, **sizes, **numbers)


def plan(library: Library | None, v: Tensor, v_threshold: Tensor, max_spikes: int) -> Step | None:
    """How a step on membranes ``v`` ``[B, …]`` is run; None where torch has to do it."""
    layout = None if library is None else Layout.of(v, v_threshold)
    if library is None or layout is None or not layout.per_channel:
        return None
    return Step(library, layout, max_spikes)


def matches_torch(library: Library) -> bool:
    """Tries a step of unsigned and signed neurons."""
    generator = torch.Generator().manual_seed(0)
    v, current, grad_output, grad_after = (2 * torch.randn(6, 3, generator=generator) for _ in range(4))
    theta, most = torch.tensor([0.5, 1.0, 2.0]), 2
    for net in (None, torch.randint(0, 4, (6, 3), generator=generator).float()):
        made = plan(library, v, theta, most)
        assert made is not None
        output, u, after = (torch.empty_like(v) for _ in range(3))
        left = None if net is None else torch.empty_like(v)
        made.forward(v, current, net, output, u, after, left)
        gradients = made.backward(grad_output, grad_after, u, net, torch.float32)
        inputs = tuple(values.clone().requires_grad_() for values in (v, current, theta))
        charged = inputs[0] + inputs[1]
        count = fire(charged, inputs[2], net, most)
        emitted = count * inputs[2]
        expected = torch.autograd.grad((emitted, charged - emitted), inputs, (grad_output, grad_after))
        kept = net is None or (left is not None and torch.equal(left, net + count))
        if not (kept and close((output, after, *gradients), (emitted, charged - emitted, *expected))):
            return False
    return True
