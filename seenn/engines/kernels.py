"""How a synapse adds its response to a sum: oneDNN kernels with packed weights, or torch where they are missing.

Every kernel of an integer program gives the same whole numbers. ``is_exact`` does not believe that but tries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from seenn.lowering.program import Buffer, SynapseTerm
from seenn.ops import Conv2d, Linear

Accumulate = Callable[[Tensor, Tensor, Tensor | None], object]  # (target, source, bias): target += response + bias
CLEARLY = (
    1.5  # times faster int8 has to be: it wants a copy of every count, and a busy machine blurs a short measurement
)
LARGEST_PAIR = (1 << 15) - 1  # of two products: AVX2's vpmaddubsw saturates there


class Kernel(Protocol):
    """One way to compute synapses."""

    name: str
    dtype: torch.dtype  # of the sources that it reads

    def __hash__(self) -> int: ...

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        """Whether this kernel can compute the term."""

    def prepare(self, term: SynapseTerm, source: Buffer, batch: int, device: torch.device) -> Accumulate:
        """Packs the weights."""


class PlainKernel:
    """Whatever torch does, in any precision and on any device."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.name = f"torch {str(dtype).removeprefix('torch.')}"
        self.dtype = dtype

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        return True

    def prepare(self, term: SynapseTerm, source: Buffer, batch: int, device: torch.device) -> Accumulate:
        weight = term.weight.to(device, self.dtype)

        def accumulate(target: Tensor, x: Tensor, bias: Tensor | None) -> None:
            target.add_(term.op.response(x.to(self.dtype), weight, None))
            if bias is not None:
                target.add_(bias.view(-1, *[1] * (target.dim() - 2)) if isinstance(term.op, Conv2d) else bias)

        return accumulate


class Float32Kernel:
    """oneDNN's float32 convolution, adding itself to the membrane in place; matrix products likewise."""

    name = "oneDNN float32"
    dtype = torch.float32

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        return isinstance(term.op, Conv2d | Linear)

    def prepare(self, term: SynapseTerm, source: Buffer, batch: int, device: torch.device) -> Accumulate:
        op, weight = term.op, term.weight.to(torch.float32)
        if isinstance(op, Linear):
            transposed = weight.t()

            def multiply(target: Tensor, x: Tensor, bias: Tensor | None) -> None:
                target.view(-1, len(weight)).addmm_(x.view(-1, weight.shape[1]), transposed)
                if bias is not None:
                    target.add_(bias)

            return multiply
        assert isinstance(op, Conv2d)
        geometry = (op.padding, op.stride, op.dilation, op.groups)
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, [batch, *source.shape])
        convolve = torch.ops.mkldnn._convolution_pointwise_.binary

        def accumulate(target: Tensor, x: Tensor, bias: Tensor | None) -> None:
            convolve(target, x, packed, bias, *geometry, "add", 1.0, None, [], None)

        return accumulate


class Int8Kernel:
    """oneDNN's int8 convolution of counts, kept as ``count − low`` in a byte, into a float32 membrane."""

    name = "oneDNN int8"
    dtype = torch.uint8

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        fits = 2 * (source.high - source.low) * 127 <= LARGEST_PAIR
        return isinstance(term.op, Conv2d) and term.unit is not None and fits

    def prepare(self, term: SynapseTerm, source: Buffer, batch: int, device: torch.device) -> Accumulate:
        op, unit, zero = term.op, term.unit, int(-source.low)
        assert isinstance(op, Conv2d)
        assert unit is not None
        scale = unit.to(torch.float32)
        offset = torch.zeros(len(scale), dtype=torch.int32)
        weight = (term.weight / unit.view(-1, 1, 1, 1)).to(torch.int8)
        packed = torch.ops.onednn.qconv_prepack(
            weight, scale, 1.0, zero, op.stride, op.padding, op.dilation, op.groups, [batch, *source.shape]
        )
        geometry = (op.stride, op.padding, op.dilation, op.groups)
        convolve = torch.ops.onednn.qconv2d_pointwise.binary
        tail: tuple[Any, ...] = (1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, None, [], None)

        def accumulate(target: Tensor, x: Tensor, bias: Tensor | None) -> None:
            convolve(x, 1.0, zero, packed, scale, offset, target, bias, *geometry, *tail)

        return accumulate


INT8, FLOAT32 = Int8Kernel(), Float32Kernel()
PLAIN, DOUBLE, BFLOAT16 = (PlainKernel(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16))


@cache
def is_exact(kernel: Kernel, device: torch.device) -> bool:
    """Tries the kernel on sums that saturate or round where it is not exact, against float64."""
    generator = torch.Generator().manual_seed(0)
    for low, high, channels, stride in ((0, 1, 16, 1), (-4, 4, 32, 2), (-64, 64, 8, 1)):
        source = Buffer(name="x", shape=(channels, 9, 9), life="scratch", low=low, high=high)
        x = torch.randint(low, high + 1, (3, *source.shape), generator=generator)
        x[0], x[1] = high, low  # the extremes, all at once
        weight = torch.randint(-127, 128, (12, channels, 3, 3), generator=generator)
        weight[0], weight[1] = 127, -127
        unit = torch.randint(1, 4, (12,), generator=generator).double()
        op = Conv2d(torch.zeros(12, channels, 3, 3), stride=stride, padding=1)
        term = SynapseTerm(source="x", op=op, weight=weight.double() * unit.view(-1, 1, 1, 1), unit=unit)
        if not kernel.accepts(term, source):
            return False
        bias = torch.randint(-999, 999, (12,), generator=generator).double()
        expected = op.response(x.double(), term.weight, bias)
        start = torch.randint(-99999, 99999, expected.shape, generator=generator).double()
        target = start.to(device, torch.float32).contiguous(memory_format=torch.channels_last)
        given = (x - low if kernel.dtype is torch.uint8 else x).to(device, kernel.dtype)
        try:
            kernel.prepare(term, source, 3, device)(
                target, given.contiguous(memory_format=torch.channels_last), bias.to(device, torch.float32)
            )
        except (RuntimeError, AttributeError, NotImplementedError):  # a build or a CPU without this kernel
            return False
        if not torch.equal(target.cpu().double(), start + expected):
            return False
    return True


def exact_kernels(device: torch.device) -> list[Kernel]:
    """The kernels that are exact on this machine, the fastest first; torch in float64 always is."""
    packed: list[Kernel] = [FLOAT32, INT8] if device.type == "cpu" else []
    found = [kernel for kernel in packed if is_exact(kernel, device)]
    if len(found) == 2 and gmacs(INT8) > CLEARLY * gmacs(FLOAT32):
        found.reverse()
    return found + [kernel for kernel in (PLAIN, DOUBLE) if is_exact(kernel, device)]


@cache
def gmacs(kernel: Kernel) -> float:
    """10^9 multiply-accumulates a second in a typical convolution on the CPU, in the best of a few runs.

    Decides speed only, never a result.
    """
    batch = 8
    source = Buffer(name="x", shape=(64, 14, 14), life="scratch", low=-4, high=4)
    weight = torch.full((64, 64, 3, 3), 7.0, dtype=torch.float64)
    op = Conv2d(torch.zeros(64, 64, 3, 3), padding=1)
    term = SynapseTerm(source="x", op=op, weight=weight, unit=torch.ones(64, dtype=torch.float64))
    accumulate = kernel.prepare(term, source, batch, torch.device("cpu"))
    x = torch.ones(batch, *source.shape, dtype=kernel.dtype).contiguous(memory_format=torch.channels_last)
    target = torch.zeros(batch, *source.shape).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        accumulate(target, x, None)
        times.append(time.perf_counter() - start)
    return batch * op.macs(source.shape, source.shape) / min(times) / 1e9
