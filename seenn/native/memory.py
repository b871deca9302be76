"""Tensors as the compiled code reads them: addresses of dense memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seenn.native.library import Library


def address(values: Tensor, dtype: torch.dtype, *, dense: bool) -> int:
    """Where ``values`` lies, if it lies as the compiled code reads it; the caller keeps it alive.

    Raises:
        ValueError: it does not.
    """
    plain = type(values) in (Tensor, nn.Parameter)  # not one that carries nothing but a shape
    if not (plain and dense and values.dtype == dtype and values.device.type == "cpu"):
        raise ValueError(f"memory of another layout: {values.dtype}, {tuple(values.shape)}, {values.stride()}")
    return values.data_ptr()


def number(values: Tensor) -> torch.dtype:
    """What its numbers are to be, of four bytes: int32 where they are, float32 otherwise."""
    return torch.int32 if values.dtype == torch.int32 else torch.float32


def order(values: Tensor) -> torch.memory_format:
    """In which order dense values lie."""
    images = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if images else torch.contiguous_format


def is_dense(values: Tensor, like: Tensor | None = None) -> bool:
    """Without gaps, in the order of ``like``; channels-last where there are four axes and nothing to be like."""
    images = torch.channels_last if values.dim() == 4 else torch.contiguous_format
    return values.is_contiguous(memory_format=images if like is None else order(like))


@dataclass(frozen=True)
class Layout:
    """How samples lie in memory, in whatever order, and what thresholds repeat with there.

    Attributes:
        order: the axes of a batch as they lie, outermost first.
        pattern: the thresholds of one period.
        per_channel: a period is one place of the image; else it is a whole sample.
    """

    order: tuple[int, ...]
    pattern: Tensor
    per_channel: bool

    @classmethod
    def of(cls, batch: Tensor, v_threshold: Tensor) -> Layout | None:
        """The layout of ``batch`` ``[B, …]``; None where it cannot be used by compiled code."""
        if batch.dtype != torch.float32 or batch.device.type != "cpu" or batch.numel() == 0 or batch.dim() < 2:
            return None
        strides = batch.stride()
        order = (0, *sorted(range(1, batch.dim()), key=lambda axis: (-strides[axis], axis)))
        threshold = v_threshold.detach().to(torch.float32)
        innermost = order[-1] - batch.dim()
        per_channel = True
        if threshold.numel() == 1:
            pattern = threshold.reshape(1).expand(batch.shape[order[-1]])
        elif threshold.dim() >= -innermost and threshold.numel() == threshold.shape[innermost]:
            pattern = threshold.flatten()
        else:
            pattern = threshold.expand(batch.shape)[0].permute([axis - 1 for axis in order[1:]]).flatten()
            per_channel = False
        made = cls(order, pattern.contiguous(), per_channel)
        return made if made.fits(batch) else None

    def fits(self, batch: Tensor) -> bool:
        """Whether ``[B, …]`` lies so, in float32 or bfloat16."""
        if batch.dtype not in (torch.float32, torch.bfloat16) or batch.device.type != "cpu":
            return False
        return batch.permute(self.order).is_contiguous()

    def address(self, batch: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
        """Of ``[B, …]``; None for None.

        Raises:
            ValueError: it lies otherwise.
        """
        return None if batch is None else address(batch, dtype, dense=self.fits(batch))


def struct(
    name: str, *, pointers: str, sizes: str, floats: str = "", integers: str = "", narrow: str = ""
) -> type[ctypes.Structure]:
    """A C structure of these fields, in this order; the pointers named in ``narrow`` may be to bfloat16."""
    kinds = ((pointers, ctypes.c_void_p), (sizes, ctypes.c_int64), (floats, ctypes.c_float), (integers, ctypes.c_int32))
    fields = [(field, kind) for names, kind in kinds for field in names.split()]
    members = {"_fields_": fields, "pointers": pointers.split(), "narrow_pointers": narrow.split()}
    return type(name, (ctypes.Structure,), members)


def run(
    library: Library,
    function: Any,
    dtype: torch.dtype,
    address: Callable[[Tensor, torch.dtype], int | None],
    *pointers: Tensor | int | None,
    **numbers: float,
) -> None:
    """Calls the function that a structure is named after and the argument of, on torch's number of threads.

    Args:
        library: that has the function.
        function: from ``struct``.
        dtype: of those tensors that may be of bfloat16; all others are of float32.
        address: where a tensor of this type lies.
        pointers: in the structure's order: tensors, or addresses that are known.
        numbers: the other fields.
    """
    fields: dict[str, int | None] = {}
    for name, value in zip(function.pointers, pointers, strict=True):
        own = dtype if name in function.narrow_pointers else torch.float32
        fields[name] = address(value, own) if isinstance(value, Tensor) else value
    work = function(narrow=dtype == torch.bfloat16, threads=torch.get_num_threads(), **fields, **numbers)
    getattr(library, function.__name__)(ctypes.byref(work))


def close(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether two lists of results are the same to rounding."""
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected, strict=True))
