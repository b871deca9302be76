"""Calls that rearrange values."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.ops import Flatten, Pad, Permute, Reshape, Slice


@handles(nn.Flatten)
def flatten_module(call: Call) -> Result:
    assert isinstance(call.module, nn.Flatten)
    return _flatten(call, call.module.start_dim, call.module.end_dim)


@handles(torch.flatten, "flatten")
def flatten(call: Call) -> Result:
    return _flatten(call, call.argument(1, "start_dim", 0), call.argument(2, "end_dim", -1))


def _flatten(call: Call, start: int, end: int) -> Result:
    dims = len(call.shape())
    start, end = call.axis(start), end % dims
    return Alias(call.args[0]) if end <= start else Made(Flatten(start=start, end=end), (call.args[0],))


@handles("view", "reshape", torch.reshape, "squeeze", "unsqueeze", torch.squeeze, torch.unsqueeze)
def reshape(call: Call) -> Result:
    """Any reshape that keeps the batch first: the traced shapes say what it does."""
    before, after = call.shape(), call.shape(call.node)
    if before[0] != after[0]:
        raise Refused(f"reshapes {list(before)} to {list(after)} across the batch", "keep the batch axis first")
    if before == after:
        return Alias(call.args[0])
    return Made(Reshape(shape=after[1:]), (call.args[0],))


@handles("permute", torch.permute)
def permute(call: Call) -> Result:
    first = call.argument(1, "dims")
    axes = first if isinstance(first, tuple | list) else call.args[1:]
    return _permute(call, tuple(axis % len(call.shape()) for axis in axes))


@handles("transpose", torch.transpose)
def transpose(call: Call) -> Result:
    axes = list(range(len(call.shape())))
    a, b = call.argument(1, "dim0") % len(axes), call.argument(2, "dim1") % len(axes)
    axes[a], axes[b] = axes[b], axes[a]
    return _permute(call, tuple(axes))


def _permute(call: Call, axes: tuple[int, ...]) -> Result:
    if axes[0] != 0:
        raise Refused("moves the batch axis", "keep the batch axis first")
    return Made(Permute(axes=axes), (call.args[0],))


@handles("chunk", torch.chunk, "split", torch.split)
def split(call: Call) -> Result:
    axis = call.axis(call.argument(2, "dim", 0))
    source = call.args[0]
    sizes = [shape[axis] for shape in call.node.meta["shape"]]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        Made(Slice(axis=axis, start=start, stop=start + size), (source,))
        for start, size in zip(starts, sizes, strict=True)
    )


@handles(nn.ZeroPad2d)
def zero_pad(call: Call) -> Result:
    assert isinstance(call.module, nn.ZeroPad2d)
    return Made(Pad(amounts=tuple(call.module.padding)), (call.args[0],))


@handles(F.pad)
def pad(call: Call) -> Result:
    mode, value = call.argument(2, "mode", "constant"), call.argument(3, "value")
    if mode != "constant" or value not in (None, 0, 0.0):
        raise Refused(f"pads with {mode} {value}", "only zero padding keeps the op linear over time")
    amounts = tuple(call.argument(1, "pad"))
    if len(amounts) >= 2 * len(call.shape()):
        raise Refused("pads the batch", "keep images independent: pad the axes after the first")
    return Made(Pad(amounts=amounts), (call.args[0],))


@handles("contiguous", "clone", "detach", "float", torch.clone)
def same(call: Call) -> Result:
    return Alias(call.args[0])


@handles(operator.getitem)
def getitem(call: Call) -> Result:
    """``x[:, a:b]`` and its like: full slices but for one axis with a constant range."""
    index: Any = call.args[1]
    source = call.args[0]
    parts = index if isinstance(index, tuple) else (index,)
    full, chosen = slice(None), None
    for axis, part in enumerate(parts):
        if part == full:
            continue
        if chosen is not None or not isinstance(part, slice) or any(isinstance(p, fx.Node) for p in _ends(part)):
            raise Refused(f"indexing with {index}", "slice one axis with a constant range")
        chosen = (axis, part)
    if chosen is None:
        return Alias(source)
    axis, part = chosen
    start, stop, step = part.indices(call.shape()[axis])
    if step != 1 or stop <= start:
        raise Refused(f"indexing with {index}", "slice a contiguous range")
    return Made(Slice(axis=call.axis(axis), start=start, stop=stop), (source,))


def _ends(part: slice) -> tuple[Any, Any, Any]:
    return (part.start, part.stop, part.step)
