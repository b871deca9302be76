"""How a synapse adds its response to a sum: oneDNN kernels with packed weights, or torch where they are missing.

Every kernel of an integer program gives the same integers. ``is_exact`` does not believe that but tries.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from ctypes import CDLL
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seenn.core.ops import Conv2d, Linear
from seenn.core.ops.base import Synapse
from seenn.native import Depthwise
from seenn.native.cache import find, keep, key
from seenn.runtime.lowering.program import EXACT_LIMIT, Buffer, SynapseTerm

Action = Callable[[], object]
Accumulate = Callable[[Tensor, Tensor], object]  # (target, source): target += response + bias
Margin = tuple[int, int]  # rows and columns of zero counts around an image
NO_MARGIN: Margin = (0, 0)
#: Times faster int8 has to be: it wants a copy of every count, and a busy machine blurs a short measurement.
CLEARLY = 1.5
LARGEST_BYTE = 255
LARGEST_PAIR = (1 << 15) - 1  # of two products: AVX2's vpmaddubsw saturates there


@dataclass(frozen=True)
class Copy:
    """A buffer as bytes, ``value − low``, with a margin of zero counts around each image."""

    name: str
    margin: Margin


Views = Mapping[str, Tensor]  # buffers, of some rows
Copies = Mapping[Copy, Tensor]


def interiors(copies: Copies, name: str) -> list[Tensor]:
    """The copies of one buffer, without their margins."""
    found = []
    for copy, framed in copies.items():
        if copy.name == name:
            rows, columns = copy.margin
            image = framed.dim() == 4
            height, width = framed.shape[2:] if image else (0, 0)
            found.append(framed[:, :, rows : height - rows, columns : width - columns] if image else framed)
    return found


class Kernel(ABC):
    """One way to compute synapses."""

    name: str
    dtype = torch.float32  # of the sources that it reads; bytes hold value − low

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        """Whether this kernel can compute the term."""
        return True

    def margin(self, term: SynapseTerm, source: Buffer, bias: Tensor | None) -> Margin:
        """What the source has to have around it."""
        return NO_MARGIN

    @abstractmethod
    def prepare(
        self, term: SynapseTerm, source: Buffer, bias: Tensor | None, batch: int, device: torch.device
    ) -> Accumulate:
        """Packs the weights; ``bias``: float64, one number for each output."""


class PlainKernel(Kernel):
    """Whatever torch does, in any precision and on any device."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.name = f"torch {str(dtype).removeprefix('torch.')}"
        self.dtype = dtype

    def prepare(
        self, term: SynapseTerm, source: Buffer, bias: Tensor | None, batch: int, device: torch.device
    ) -> Accumulate:
        weight = term.weight.to(device, self.dtype)
        added = None if bias is None else bias.to(device, torch.float32)
        if added is not None and term.geometry.channels == 0:
            added = added.view(-1, *[1] * (weight.dim() - 2))

        def accumulate(target: Tensor, x: Tensor) -> None:
            target.add_(term.op.response(x.to(self.dtype), weight, None))
            if added is not None:
                target.add_(added)

        return accumulate


class Float32Kernel(Kernel):
    """oneDNN's float32 convolution, adding itself to the membrane in place; matrix products likewise."""

    name = "oneDNN float32"

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        return term.geometry.window is not None or (term.geometry.channels == -1 and term.weight.dim() == 2)

    def prepare(
        self, term: SynapseTerm, source: Buffer, bias: Tensor | None, batch: int, device: torch.device
    ) -> Accumulate:
        weight, window = term.weight.to(torch.float32), term.geometry.window
        added = None if bias is None else bias.to(torch.float32)
        if window is None:
            transposed = weight.t()

            def multiply(target: Tensor, x: Tensor) -> None:
                if x.is_contiguous() and target.is_contiguous():
                    target.view(-1, len(weight)).addmm_(x.view(-1, weight.shape[1]), transposed)
                else:  # images, along their rows
                    target.add_(x @ transposed)
                if added is not None:
                    target.add_(added)

            return multiply
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *window, [batch, *source.shape])
        convolve = torch.ops.mkldnn._convolution_pointwise_.binary

        def accumulate(target: Tensor, x: Tensor) -> None:
            convolve(target, x, packed, added, *window, "add", 1.0, None, [], None)

        return accumulate


class Int8Kernel(Kernel):
    """oneDNN's int8 convolution of counts, kept as ``count − low`` in a byte, into a float32 membrane.

    oneDNN can subtract a zero point itself, but looks at every weight anew for it in every call: a third of the time
    where channels are many. Here the bias takes care of it, ``Σ w·n = Σ w·(n − low) + low·Σ w``, and where the
    convolution pads, a margin of zero counts around the image makes that true at its borders too.
    """

    name = "oneDNN int8"
    dtype = torch.uint8

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        fits = 2 * (source.high - source.low) * 127 <= LARGEST_PAIR
        return term.geometry.window is not None and term.unit is not None and fits

    def margin(self, term: SynapseTerm, source: Buffer, bias: Tensor | None) -> Margin:
        rows, columns = term.geometry.padding
        return (rows, columns) if source.low != 0 and _is_exact_when_moved(term, source, bias) else NO_MARGIN

    def prepare(
        self, term: SynapseTerm, source: Buffer, bias: Tensor | None, batch: int, device: torch.device
    ) -> Accumulate:
        unit, low, window = term.unit, int(source.low), term.geometry.window
        assert unit is not None
        assert window is not None
        padding, stride, dilation, groups = window
        zero, shape = -low, source.shape
        if low and _is_exact_when_moved(term, source, bias):
            shape = (shape[0], *(size + 2 * edge for size, edge in zip(shape[1:], padding, strict=True)))
            padding, zero = NO_MARGIN, 0
            shift = low * term.weight.flatten(1).sum(1)
            bias = shift if bias is None else bias + shift
        added = None if bias is None else bias.to(torch.float32)
        scale = unit.to(torch.float32)
        offset = torch.zeros(len(scale), dtype=torch.int32)
        weight = _in_units(term, unit).to(torch.int8)
        packed = torch.ops.onednn.qconv_prepack(
            weight, scale, 1.0, zero, stride, padding, dilation, groups, [batch, *shape]
        )
        convolve = torch.ops.onednn.qconv2d_pointwise.binary
        tail: tuple[Any, ...] = (1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, None, [], None)

        def accumulate(target: Tensor, x: Tensor) -> None:
            convolve(x, 1.0, zero, packed, scale, offset, target, added, stride, padding, dilation, groups, *tail)

        return accumulate


class DepthwiseKernel(Kernel):
    """Our own depthwise convolution of counts, kept as ``count − low`` in a byte; ``seenn.native`` has tried it."""

    name = "depthwise int8"
    dtype = torch.uint8

    def __init__(self, library: CDLL) -> None:
        self._library = library

    def accepts(self, term: SynapseTerm, source: Buffer) -> bool:
        window, channels = term.geometry.window, source.shape[0]
        fits = term.unit is not None and source.high - source.low <= LARGEST_BYTE
        return fits and window is not None and 1 < window[-1] == channels == len(term.weight)

    def margin(self, term: SynapseTerm, source: Buffer, bias: Tensor | None) -> Margin:
        rows, columns = term.geometry.padding
        return rows, columns

    def prepare(
        self, term: SynapseTerm, source: Buffer, bias: Tensor | None, batch: int, device: torch.device
    ) -> Accumulate:
        unit, window = term.unit, term.geometry.window
        assert unit is not None
        assert window is not None
        _, stride, dilation, _ = window
        added, low, most = (
            torch.zeros_like(unit) if bias is None else bias,
            int(source.low),
            int(source.high - source.low),
        )
        (below, beside), (down, across) = stride, dilation
        weight = _in_units(term, unit)
        return Depthwise(self._library, weight, unit, added, low, most, (below, beside), (down, across))


def _in_units(term: SynapseTerm, unit: Tensor) -> Tensor:
    """A convolution's weights, integers that fit in int8."""
    return term.weight / unit.view(-1, 1, 1, 1)


def _is_exact_when_moved(term: SynapseTerm, source: Buffer, bias: Tensor | None) -> bool:
    """Whether float32 holds the response to ``count − low``, and what the bias makes up for."""
    weights = float(term.weight.abs().flatten(1).sum(1).max())
    constant = 0.0 if bias is None else float(bias.abs().max())
    return weights * (source.high - source.low) + constant < EXACT_LIMIT


INT8, FLOAT32 = Int8Kernel(), Float32Kernel()
PLAIN, DOUBLE, BFLOAT16 = (PlainKernel(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16))


def is_exact(kernel: Kernel, device: torch.device) -> bool:
    """Tries the kernel on sums that saturate or round where it is not exact, against float64.

    That it passed on a CPU is kept, for other processes with the same machine, torch and settings.
    """
    return _is_exact(kernel, device, _settings(torch.get_num_threads()))


@cache
def _is_exact(kernel: Kernel, device: torch.device, settings: str) -> bool:
    name = f"exact-{kernel.name}".replace(" ", "-")
    if device.type == "cpu" and find(name, settings):
        return True
    generator = torch.Generator().manual_seed(0)
    for low, high, channels, stride in ((0, 1, 16, 1), (-4, 4, 32, 2), (-64, 64, 8, 1)):
        convolution = Conv2d(
            torch.zeros(12, channels, 3, 3, dtype=torch.float32), stride=(stride, stride), padding=(1, 1)
        )
        linear = Linear(torch.zeros(256, 16 * channels, dtype=torch.float32))  # torch has other ways for small products
        for op, shape in ((convolution, (channels, 9, 9)), (linear, (16 * channels,))):
            source = Buffer(name="x", shape=shape, life="scratch", low=low, high=high)
            if not _matches_float64(kernel, device, op, source, generator):
                return False
    if device.type == "cpu":
        keep(name, settings, b"")
    return True


def _matches_float64(
    kernel: Kernel, device: torch.device, op: Synapse, source: Buffer, generator: torch.Generator
) -> bool:
    """On counts and weights that include the extremes; True for what the kernel does not accept."""

    def integers(low: float, high: float, *shape: int) -> Tensor:
        return torch.randint(int(low), int(high) + 1, shape, generator=generator)

    layout = torch.channels_last if len(source.shape) == 3 else torch.contiguous_format
    x, weight = integers(source.low, source.high, 3, *source.shape), integers(-127, 127, *op.weight.shape)
    x[0], x[1] = source.high, source.low  # the extremes, all at once
    weight[0], weight[1] = 127, -127
    unit = integers(1, 3, len(weight)).double()
    term = SynapseTerm(source="x", op=op, weight=weight.double() * unit.view(-1, *[1] * (x.dim() - 1)), unit=unit)
    if not kernel.accepts(term, source):
        return True
    bias = integers(-999, 999, len(weight)).double()
    expected = op.response(x.double(), term.weight, bias)
    start = integers(-99999, 99999, *expected.shape).double()
    target = start.to(device, torch.float32).contiguous(memory_format=layout)
    rows, columns = kernel.margin(term, source, bias)
    framed = torch.nn.functional.pad(x, (columns, columns, rows, rows))
    given = (framed - source.low if kernel.dtype is torch.uint8 else framed).to(device, kernel.dtype)
    try:
        kernel.prepare(term, source, bias, len(x), device)(target, given.contiguous(memory_format=layout))
    except (RuntimeError, AttributeError, NotImplementedError):  # a build or a CPU without this kernel
        return False
    return torch.equal(target.cpu().double(), start + expected)


def _settings(threads: int) -> str:
    """A key of what decides, beside the kernel, what it computes here and how fast."""
    mkldnn, libraries = torch.backends.mkldnn, ("ATEN_", "DNNL_", "ONEDNN_", "MKL_", "OMP_", "KMP_")
    environment = sorted(item for item in os.environ.items() if item[0].startswith(libraries))
    precisions = [getattr(getattr(mkldnn, name, None), "fp32_precision", None) for name in ("conv", "matmul")]
    if None in precisions:  # torch before 2.9
        precisions = [torch.get_float32_matmul_precision()]
    return key(Path(__file__).read_bytes(), threads, environment, precisions, torch._C._get_mkldnn_enabled())


def exact_kernels(device: torch.device, library: CDLL | None = None) -> list[Kernel]:
    """The kernels that are exact on this machine, the fastest first; torch in float64 always is.

    ``library``: from ``seenn.native``, for those that are our own.

    On another device it is the only one: which of its float32 algorithms a library takes there depends on the shapes,
    and some transform the values first, so that integers do not stay integers.
    """
    if device.type != "cpu":
        return [DOUBLE]
    packed: list[Kernel] = [FLOAT32, INT8]
    found = [kernel for kernel in packed if is_exact(kernel, device)]
    if len(found) == 2 and _int8_is_clearly_faster():
        found.reverse()
    own: list[Kernel] = [] if library is None else [DepthwiseKernel(library)]
    return own + found + [kernel for kernel in (PLAIN, DOUBLE) if is_exact(kernel, device)]


def _int8_is_clearly_faster() -> bool:
    """Measured on one thread, where a busy machine blurs it least, and kept, so that all processes choose alike."""
    settings = _settings(1)
    for answer in (True, False):
        if find(f"int8-is-faster-{answer}", settings):
            return answer
    faster = gmacs(INT8, 1) > CLEARLY * gmacs(FLOAT32, 1)
    keep(f"int8-is-faster-{faster}", settings, b"")
    return faster


@cache
def gmacs(kernel: Kernel, threads: int) -> float:
    """10^9 multiply-accumulates a second in a typical convolution on the CPU, in the best of a few runs.

    Decides speed only, never a result.
    """
    batch, before = 8, torch.get_num_threads()
    source = Buffer(name="x", shape=(64, 14, 14), life="scratch", low=0, high=4)
    weight = torch.full((64, 64, 3, 3), 7.0, dtype=torch.float64)
    op = Conv2d(torch.zeros(64, 64, 3, 3, dtype=torch.float32), padding=(1, 1))
    term = SynapseTerm(source="x", op=op, weight=weight, unit=torch.ones(64, dtype=torch.float64))
    x = torch.ones(batch, *source.shape, dtype=kernel.dtype).contiguous(memory_format=torch.channels_last)
    target = torch.zeros(batch, *source.shape, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    times = []
    torch.set_num_threads(threads)
    try:
        accumulate = kernel.prepare(term, source, None, batch, torch.device("cpu"))
        for _ in range(7):
            start = time.perf_counter()
            accumulate(target, x)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return batch * op.macs(source.shape, source.shape) / min(times) / 1e9
