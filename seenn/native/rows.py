"""New values for some samples of several buffers, in one pass."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import address, is_dense, number, struct

_Rows = struct("_Rows", pointers="target source", sizes="length stride")


class RowWriter:
    """Gives some samples of several buffers new values.

    Args:
        library: from ``load``.
        pairs: a buffer ``[slots, …]``, and ``[count, …]`` for as many rows or ``[1, …]`` for all of them; float32
            or int32, and dense in the same order.
    """

    def __init__(self, library: ctypes.CDLL, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._function = library.seenn_write_rows
        self._kept = list(pairs)
        self._rows = (_Rows * len(pairs))()
        for entry, (target, source) in zip(self._rows, pairs, strict=True):
            if target.shape[1:] != source.shape[1:]:
                raise ValueError(f"rows of {tuple(source.shape)} for {tuple(target.shape)}")
            entry.target, entry.source = (
                address(x, number(target), dense=is_dense(x, target)) for x in (target, source)
            )
            entry.length = math.prod(target.shape[1:])
            entry.stride = entry.length if len(source) > 1 else 0
        self._slots = min((len(target) for target, _ in pairs), default=sys.maxsize)
        self._most = min((len(source) for _, source in pairs if len(source) > 1), default=self._slots)

    def __call__(self, rows: Tensor) -> None:
        """``rows``: int64 ``[k]``, different ones."""
        rows, count = rows.contiguous(), rows.numel()
        few = rows.dtype == torch.int64 and count <= self._most
        if not few or self._function(
            ctypes.byref(self._rows),
            ctypes.c_int64(len(self._rows)),
            ctypes.c_void_p(rows.data_ptr()),
            ctypes.c_int64(count),
            ctypes.c_int64(self._slots),
            ctypes.c_int32(torch.get_num_threads()),
        ):
            raise ValueError(f"rows {rows.tolist()} of {self._slots}, or more than the {self._most} that there are")


def matches_torch(library: Library) -> bool:
    """Tries it."""
    target, source = torch.zeros(4, 3), torch.arange(6.0).view(2, 3)
    RowWriter(library, [(target, source)])(torch.tensor([3, 1]))
    return torch.equal(target, torch.stack([source.new_zeros(3), source[1], source.new_zeros(3), source[0]]))
