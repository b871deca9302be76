"""Batch normalisation in training, two passes over the memory each way."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import address, close, is_dense, run, struct

_PARTS = 32  # sums that are formed apart, whatever the number of threads: the result does not depend on it
_WIDE = 256  # a period holds at most so many numbers, or one place of the image

_Forward = struct(
    "seenn_norm",
    pointers="x centre weight bias y mean variance root sums pattern",
    sizes="groups period channels parts",
    floats="eps",
    integers="narrow threads",
    narrow="x y",
)
_Backward = struct(
    "seenn_norm_backward",
    pointers="x dy mean root weight dx grad_weight grad_bias sums pattern",
    sizes="groups period channels parts",
    integers="narrow threads",
    narrow="x dy dx",
)


@dataclass(frozen=True)
class Norm:
    """How a batch ``[B, C]`` or ``[B, C, H, W]`` lies in memory, place after place. Made by ``plan``."""

    library: Library
    channels: int
    period: int  # the channels of so many places
    dtype: torch.dtype

    def forward(
        self, x: Tensor, centre: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``y``, the batch's mean and variance, and ``1/√(variance + eps)``; ``centre`` is about where the mean is."""
        y, (mean, variance, root) = torch.empty_like(x), torch.empty(3, self.channels, dtype=torch.float32)
        self._run(_Forward, x, centre, weight, bias, y, mean, variance, root, eps=eps)
        return y, mean, variance, root

    def backward(
        self, x: Tensor, dy: Tensor, mean: Tensor, root: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients at x, weight and bias."""
        dx, (grad_weight, grad_bias) = torch.empty_like(x), torch.empty(2, self.channels, dtype=torch.float32)
        self._run(_Backward, x, dy, mean, root, weight, dx, grad_weight, grad_bias)
        return dx, grad_weight, grad_bias

    def fits(self, other: Tensor) -> bool:
        """Whether it lies so."""
        return other.dtype == self.dtype and is_dense(other)

    def _run(self, function: type[ctypes.Structure], x: Tensor, *others: Tensor | None, **numbers: float) -> None:
        run(
            self.library,
            function,
            self.dtype,
            _address,
            x,
            *others,
            torch.empty(_PARTS * 2 * self.period, dtype=torch.float32),
            torch.empty(3 * self.period, dtype=torch.float32),
            groups=x.numel() // self.period,
            period=self.period,
            channels=self.channels,
            parts=_PARTS,
            **numbers,
        )


def _address(values: Tensor, dtype: torch.dtype) -> int:
    return address(values, dtype, dense=is_dense(values))


def plan(library: Library | None, x: Tensor, *numbers: Tensor | None) -> Norm | None:
    """How ``x`` is normalised, with vectors of ``numbers``; None where torch has to do it."""
    if library is None or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return None
    if x.dim() not in (2, 4) or not is_dense(x) or x.numel() <= x.shape[1]:  # torch refuses a single value
        return None
    if any(n is not None and (n.dtype != torch.float32 or not n.is_contiguous()) for n in numbers):
        return None
    channels, repeats = x.shape[1], 1
    places = x.numel() // channels
    while places % (2 * repeats) == 0 and 2 * repeats * channels <= _WIDE:
        repeats *= 2
    return Norm(library, channels, channels * repeats, x.dtype)


def matches_torch(library: Library) -> bool:
    """Tries both ways, with and without weights, on few numbers."""
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(64, 3, generator=generator) for _ in range(2))
    centre, weight, bias = torch.randn(3, 3, generator=generator)
    made = plan(library, x)
    assert made is not None
    for gamma, beta in ((weight, bias), (None, None)):
        y, mean, variance, root = made.forward(x, centre, gamma, beta, 1e-5)
        found = (y, mean, variance, *made.backward(x, dy, mean, root, gamma))
        given = x, torch.ones(3) if gamma is None else gamma, torch.zeros(3) if beta is None else beta
        own, factor, shift = inputs = [values.clone().requires_grad_() for values in given]
        expected = torch.nn.functional.batch_norm(own, None, None, factor, shift, training=True, eps=1e-5)
        gradients = torch.autograd.grad(expected, inputs, dy)
        if not close(found, (expected, x.mean(0), x.var(0, correction=0), *gradients)):
            return False
    return True
