"""Calls that pick values: indexing, rolls, flips, repetitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.capture.probed import moved
from seenn.capture.shape import select
from seenn.core.ops import Permute, Reshape, Slice, Take

_FULL = slice(None)
_SLICE = (("dim", 0), ("start", None), ("end", None), ("step", 1))  # arguments of aten.slice, and defaults


@handles("getitem", any_layout=True)
def getitem(call: Call) -> Result:
    """``x[:, a:b:c, 0, None, ..., index]``: every axis of the image by a constant range, number or index."""
    index = call.args[1]
    parts = list(index) if isinstance(index, tuple) else [index]
    rank = len(call.shape())
    if sum(_is_table(call, part) for part in parts) > 1 or any(_is_table(call, part) > 1 for part in parts):
        return moved(call)
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        missing = rank - sum(part is not None for part in parts) + 1
        parts[at : at + 1] = [_FULL] * missing
    value: Any = call.args[0]
    for axis, part in enumerate(part for part in parts if part is not None):
        if not isinstance(part, slice) or part != _FULL:
            value = _picked(call, value, axis, part, index)
    new = call.image(call.node)
    if value is call.args[0]:
        return Alias(value) if new == call.image() else Made(Reshape(shape=new), (value,))
    gone = any(part is None or isinstance(part, int) for part in parts)
    return Made(Reshape(shape=new), (value,)) if gone else Alias(value)


def _is_table(call: Call, part: Any) -> int:
    """The number of axes of an index that is a constant tensor; 0 for any other part."""
    found = call.known(part) if isinstance(part, fx.Node) else part
    return found.dim() if isinstance(found, Tensor) else int(isinstance(found, list))


def _picked(call: Call, value: Any, dim: int, part: Any, index: Any) -> Made:
    """A part of ``value`` along the traced axis ``dim``, which stays with at least one entry."""
    size = call.shape()[dim]
    if isinstance(part, int):
        part = slice(part % size, part % size + 1)
    if isinstance(part, slice) and not any(isinstance(end, fx.Node) for end in (part.start, part.stop, part.step)):
        start, stop, step = part.indices(size)
        if stop > start and step == 1:
            return Made(Slice(axis=call.axis(dim), start=start, stop=stop), (value,))
        chosen: Sequence[int] = range(start, stop, step)
    else:
        found = call.known(part) if isinstance(part, fx.Node) else part
        if isinstance(found, Tensor) and found.dim() == 1 and not found.is_floating_point():
            chosen = found.nonzero().flatten().tolist() if found.dtype == torch.bool else found.tolist()
        elif isinstance(found, list) and all(type(i) is int for i in found):
            chosen = found
        else:
            raise Refused(f"indexing with {index}", "pick by constant ranges, numbers or indices")
    return Made(Take(axis=call.axis(dim), index=tuple(i % size for i in chosen)), (value,))


@handles("select", any_layout=True)
def select_one(call: Call) -> Result:
    return select(call, call.argument(1, "dim"), call.argument(2, "index"))


@handles(torch.ops.aten.slice, any_layout=True)
def slice_operator(call: Call) -> Result:
    dim, *ends = (call.argument(i, name, default) for i, (name, default) in enumerate(_SLICE, start=1))
    size = call.shape()[dim]
    part = slice(*ends)
    return Alias(call.args[0]) if part.indices(size) == (0, size, 1) else _picked(call, call.args[0], dim, part, part)


@handles("narrow", "narrow_copy", any_layout=True)
def narrow(call: Call) -> Result:
    dim, start, length = (call.argument(i, name) for i, name in ((1, "dim"), (2, "start"), (3, "length")))
    return call.of(Slice(axis=call.axis(dim), start=start, stop=start + length))


@handles("index_select", any_layout=True)
def index_select(call: Call) -> Result:
    return _picked(call, call.args[0], call.argument(1, "dim"), call.argument(2, "index"), "a computed index")


@handles("roll", any_layout=True)
def roll(call: Call) -> Result:
    shifts, dims = call.argument(1, "shifts"), call.argument(2, "dims")
    if dims is None or dims == ():
        raise Refused("rolls the values of all images", "say along which axes: dims")
    pairs = [(shifts, dims)] if isinstance(shifts, int) else list(zip(shifts, dims, strict=True))
    return _taken(call, ((dim, [(i - shift) % n for i in range(n)]) for shift, dim in pairs
                         for n in (call.shape()[dim],)))  # fmt: skip


@handles("flip", any_layout=True)
def flip(call: Call) -> Result:
    dims = call.argument(1, "dims")
    dims = call.args[1:] if isinstance(dims, int) else dims
    return _taken(call, ((dim, list(reversed(range(call.shape()[dim])))) for dim in dims))


@handles("repeat", "tile", any_layout=True)
def repeat(call: Call) -> Result:
    first = call.argument(1, "dims")
    counts = list(first if isinstance(first, tuple | list) else call.args[1:])
    rank = len(call.shape())
    if len(counts) > rank:
        raise Refused("repeats along new axes", "add the axes first: x.unsqueeze(0)")
    counts = [1] * (rank - len(counts)) + counts
    return _taken(call, ((dim, list(range(call.shape()[dim])) * n) for dim, n in enumerate(counts) if n != 1))


@handles("repeat_interleave", any_layout=True)
def repeat_each(call: Call) -> Result:
    count, dim = call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(count, int) or dim is None:
        raise Refused("repeats by a computed number", "give repeats as a number, and dim")
    if dim % len(call.shape()) == call.layout().axis:
        return _repeated_images(call, count)
    return _taken(call, [(dim, [i for i in range(call.shape()[dim]) for _ in range(count)])])


def _repeated_images(call: Call, count: int) -> Made | Alias:
    """Each image's values several times in a row: parts of it that are alike, folded into the batch."""
    layout, shape = call.layout(), list(call.image())
    if count == 1:
        return Alias(call.args[0])
    if layout.fold == 1:
        shape.insert(layout.axis, 1)
    index = tuple(i for i in range(layout.fold) for _ in range(count))
    return Made(Take(axis=layout.axis + 1, index=index), (call.of(Reshape(shape=tuple(shape))),))


def _taken(call: Call, picks: Iterator[tuple[int, list[int]]] | Sequence[tuple[int, list[int]]]) -> Result:
    value = call.args[0]
    for dim, index in picks:
        value = Made(Take(axis=call.axis(dim), index=tuple(index)), (value,))
    return Alias(value) if value is call.args[0] else value


@handles("unfold", any_layout=True)
def windows(call: Call) -> Result:
    """``x.unfold(dim, size, step)``: windows along an axis, their entries along a new last one."""
    dim, size, step = (call.argument(i, name) for i, name in ((1, "dimension"), (2, "size"), (3, "step")))
    axis, length = call.axis(dim), call.shape()[dim]
    starts = range(0, length - size + 1, step)
    taken = call.of(Take(axis=axis, index=tuple(start + i for start in starts for i in range(size))))
    shape = list(call.image())
    shape[axis - 1 : axis] = [len(starts), size]
    parted = Made(Reshape(shape=tuple(shape)), (taken,))
    order = [place for place in range(len(shape) + 1) if place != axis + 1]
    return Made(Permute(axes=(*order, axis + 1)), (parted,))
