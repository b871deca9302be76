"""What an average adds up, from bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import address, is_dense, struct

_Windows = struct(
    "_Windows",
    pointers="bytes target rows columns",
    sizes="samples channels down across sample row",
    floats="low",
    integers="threads",
)
Spans = Sequence[tuple[int, int]]  # first and one behind the last, inside the image


class WindowSums:
    """The sum of every window of some images; call it to compute it.

    Args:
        library: from ``load``.
        source: bytes ``[B, C, H, W]``, ``value − low``, channels-last with any margin around the images. Sums are
            integers that float32 holds.
        target: float32 ``[B, C, len(rows), len(columns)]``, channels-last.
        rows, columns: of the windows.
        low: see ``source``.
    """

    def __init__(
        self, library: ctypes.CDLL, source: Tensor, target: Tensor, rows: Spans, columns: Spans, low: int
    ) -> None:
        samples, channels, height, width = source.shape
        if target.shape != (samples, channels, len(rows), len(columns)):
            raise ValueError(f"windows {len(rows)} × {len(columns)} of {tuple(source.shape)} in {tuple(target.shape)}")
        for spans, size in ((rows, height), (columns, width)):
            if not all(0 <= first <= stop <= size for first, stop in spans):
                raise ValueError(f"windows {list(spans)} of {size}")
        self._function = library.seenn_add_up
        ends = [torch.tensor(list(chain.from_iterable(spans)), dtype=torch.int64) for spans in (rows, columns)]
        self._kept = source, target, *ends
        lines = source[0, :, 0].t()
        self._work = _Windows(
            bytes=address(source, torch.uint8, dense=lines.is_contiguous()),
            target=address(target, torch.float32, dense=is_dense(target)),
            rows=ends[0].data_ptr(),
            columns=ends[1].data_ptr(),
            samples=samples,
            channels=channels,
            down=len(rows),
            across=len(columns),
            sample=source.stride(0),
            row=source.stride(2),
            low=low,
        )
        self._address = ctypes.byref(self._work)

    def __call__(self) -> None:
        self._work.threads = torch.get_num_threads()
        self._function(self._address)


def matches_torch(library: Library) -> bool:
    """Tries it: overlapping windows of images with a margin, more channels than one block."""
    generator = torch.Generator().manual_seed(0)
    framed = torch.randint(0, 256, (3, 70, 7, 9), generator=generator, dtype=torch.uint8)
    source = framed.contiguous(memory_format=torch.channels_last)[:, :, 1:-1, 2:-2]
    target = torch.zeros(3, 70, 2, 2).contiguous(memory_format=torch.channels_last)
    WindowSums(library, source, target, [(0, 3), (2, 5)], [(0, 5), (4, 5)], -3)()
    values = source.float() - 3
    cells = [values[:, :, a:b, c:d].sum((2, 3)) for a, b in ((0, 3), (2, 5)) for c, d in ((0, 5), (4, 5))]
    return torch.equal(target, torch.stack(cells, -1).view(3, 70, 2, 2))
