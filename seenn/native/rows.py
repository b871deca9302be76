"""Samples of several buffers into rows of others, in one pass."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.native.library import Library
from seenn.native.memory import address, is_dense, struct

_Rows = struct("_Rows", pointers="target source", sizes="bytes stride")


class RowWriter:
    """Gives some samples of several buffers new values.

    Args:
        library: from ``load``.
        pairs: a buffer ``[slots, …]``, and ``[samples, …]`` or ``[1, …]`` for all of them; of one type, and dense in
            the same order.
    """

    def __init__(self, library: ctypes.CDLL, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._function = library.seenn_write_rows
        self._kept = list(pairs)
        self._rows = (_Rows * len(pairs))()
        for entry, (target, source) in zip(self._rows, pairs, strict=True):
            if target.shape[1:] != source.shape[1:]:
                raise ValueError(f"rows of {tuple(source.shape)} for {tuple(target.shape)}")
            entry.target, entry.source = (address(x, target.dtype, dense=is_dense(x, target)) for x in (target, source))
            entry.bytes = math.prod(target.shape[1:]) * target.element_size()
            entry.stride = entry.bytes if len(source) > 1 else 0
        self._slots = min((len(target) for target, _ in pairs), default=sys.maxsize)
        self._most = min((len(source) for _, source in pairs if len(source) > 1), default=self._slots)

    def __call__(self, rows: Tensor, samples: Tensor | None = None) -> None:
        """``rows``: int64 ``[k]``, different ones; ``samples``: int64 ``[k]``, of the sources; None: their first."""
        if not self._kept or not len(rows):
            return
        given = [rows.contiguous()] if samples is None else [rows.contiguous(), samples.contiguous()]
        well = all(each.dtype == torch.int64 and each.numel() == rows.numel() for each in given)
        if not well or self._function(
            ctypes.byref(self._rows),
            ctypes.c_int64(len(self._rows)),
            ctypes.c_void_p(given[0].data_ptr()),
            ctypes.c_void_p(None if samples is None else given[1].data_ptr()),
            ctypes.c_int64(rows.numel()),
            ctypes.c_int64(self._slots),
            ctypes.c_int64(self._most),
            ctypes.c_int32(torch.get_num_threads()),
        ):
            given_rows = [each.tolist() for each in given]
            raise ValueError(f"rows {given_rows} of {self._slots}, or more than the {self._most} that there are")


def matches_torch(library: Library) -> bool:
    """Tries it."""
    target, source = torch.zeros(4, 3), torch.arange(6.0).view(2, 3)
    write = RowWriter(library, [(target, source)])
    write(torch.tensor([3, 1]))
    write(torch.tensor([0]), torch.tensor([1]))
    return torch.equal(target, torch.stack([source[1], source[1], source.new_zeros(3), source[0]]))
