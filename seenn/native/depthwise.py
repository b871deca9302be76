"""Depthwise convolutions of counts in bytes: oneDNN's int8 kernels take two to five times as long for them."""

from __future__ import annotations

import ctypes
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from seenn.native.library import Library
from seenn.native.memory import address, is_dense, struct

_Depthwise = struct(
    "_Depthwise",
    pointers="bytes weights offset unit bias target taps",
    sizes="count samples channels down across sample row below beside",
    integers="narrow threads",
)
LARGEST_SUM = (1 << 15) - 1  # in int16, where adding up is twice as fast as in int32


class Depthwise:
    """``target += unit · Σ weight · (byte + low) + bias``, every channel of its own; call it to compute it.

    Args:
        library: from ``load``.
        weight: int8 ``[C, 1, h, w]``, in any type.
        unit, bias: ``[C]``. Where all of them, and the results, are integers that float32 holds, results are exact.
        low: what a byte of 0 counts.
        most: the largest byte.
        stride, dilation: of the window.

    Raises:
        ValueError: weights of another shape.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        weight: Tensor,
        unit: Tensor,
        bias: Tensor,
        low: int,
        most: int,
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> None:
        if weight.dim() != 4 or weight.shape[1] != 1:
            raise ValueError(f"weights {tuple(weight.shape)} of a depthwise convolution, not [C, 1, h, w]")
        self._library = library
        self._kernel, self._stride, self._dilation = weight.shape[2:], stride, dilation
        fits = most * float(weight.abs().flatten(1).sum(1).max()) <= LARGEST_SUM
        largest = most * int(weight.abs().max())
        self._narrow = weight[0].numel() if fits else max(1, LARGEST_SUM // max(1, largest))
        self._weights = weight.flatten(1).t().contiguous().to(torch.int16)
        self._offset = (low * weight.flatten(1).sum(1)).to(torch.int32)
        self._unit, self._bias = (values.to(torch.float32).contiguous() for values in (unit, bias))
        self._taps = dict[int, Tensor]()

    def __call__(self, target: Tensor, source: Tensor) -> None:
        """``target``: float32 ``[B, C, H', W']``; ``source``: bytes ``[B, C, H, W]``, with all the zero counts around
        the image that the windows meet; both channels-last, ``source`` perhaps a part of an image.

        Raises:
            ValueError: shapes or memory that do not fit.
        """
        samples, channels, *sizes = source.shape
        places = [
            (size - step * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, step in zip(sizes, self._kernel, self._stride, self._dilation, strict=True)
        ]
        if target.shape != (samples, channels, *places) or channels != len(self._offset):
            raise ValueError(f"a depthwise convolution of {tuple(source.shape)} into {tuple(target.shape)}")
        row, (down, across), (below, beside) = source.stride(2), places, self._stride
        dense = source.stride(1) == 1 and source.stride(3) == channels
        taps = self._places(row, channels)
        work = _Depthwise(
            bytes=address(source, torch.uint8, dense=dense),
            weights=self._weights.data_ptr(),
            offset=self._offset.data_ptr(),
            unit=self._unit.data_ptr(),
            bias=self._bias.data_ptr(),
            target=address(target, torch.float32, dense=is_dense(target)),
            taps=taps.data_ptr(),
            count=len(taps),
            samples=samples,
            channels=channels,
            down=down,
            across=across,
            sample=source.stride(0),
            row=row,
            below=below * row,
            beside=beside * channels,
            narrow=self._narrow,
            threads=torch.get_num_threads(),
        )
        self._library.seenn_depthwise(ctypes.byref(work))

    def _places(self, row: int, channels: int) -> Tensor:
        """Where each tap finds its byte, from that of the window's first, in images whose rows are so far apart."""
        if row not in self._taps:
            (height, width), (down, across) = self._kernel, self._dilation
            places = [y * down * row + x * across * channels for y in range(height) for x in range(width)]
            self._taps[row] = torch.tensor(places, dtype=torch.int64)
        return self._taps[row]


def matches_torch(library: Library) -> bool:
    """Tries it: windows of every shape that has code of its own, sums at the bounds, channels that fill no register."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 1, 1, 70), (3, 2, 1, 16), (5, 2, 1, 40), (2, 1, 2, 5))
    for (size, stride, dilation, channels), narrow in product(shapes, (1, 8, 25)):
        most = min(255, LARGEST_SUM // (127 * narrow))
        framed = torch.randint(0, most + 1, (3, channels, 11, 13), generator=generator, dtype=torch.uint8)
        framed[0] = most
        weight = torch.randint(-127, 128, (channels, 1, size, size), generator=generator)
        weight[0], weight[1] = 127, -127
        unit, bias = (torch.randint(1, 9, (channels,), generator=generator) for _ in range(2))
        expected = F.conv2d(framed.double() - 4, weight.double(), None, stride, 0, dilation, channels)
        expected = expected * unit.view(-1, 1, 1) + bias.view(-1, 1, 1)
        target = torch.ones_like(expected, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
        run = Depthwise(library, weight, unit, bias, -4, most, (stride, stride), (dilation, dilation))
        run(target, framed.contiguous(memory_format=torch.channels_last))
        if not torch.equal(target.double(), expected + 1):
            return False
    return True
