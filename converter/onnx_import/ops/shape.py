"""Nodes that give the same values another shape."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Rows, Traced
from seenn.capture import Refused


@imports("Flatten", rows=None)
def flatten(call: OnnxCall) -> Result:
    """Into a matrix, of the axes before one and of the others."""
    x, axis = rows if isinstance(rows := call.value(0), Rows) else call.traced(), call.attribute("axis", 1)
    shapes = []
    for batch in call.builder.batch.declared:
        sizes = x.sizes(batch)
        shapes.append((batch, [math.prod(sizes[:axis]), math.prod(sizes[axis:])]))
    return _reshaped(call, x, shapes)


@imports("Reshape", rows=None)
def reshape(call: OnnxCall) -> Result:
    """Any reshape that keeps each image's values together; a baked batch becomes free."""
    zeros = not call.attribute("allowzero", 0)
    x = rows if isinstance(rows := call.value(0), Rows) else call.traced()
    return _reshaped(call, x, [(n, _resolve(target, x.sizes(n), zeros)) for n, target in call.at_batches(1)])


def _reshaped(call: OnnxCall, x: Traced | Rows, found: list[tuple[int, list[int]]]) -> Result:
    """``x`` in another shape, which is stated for each batch size."""
    kept, lying = _opened(x)
    first, shape = found[0]
    places = {place: rest for place in range(len(shape)) if (rest := _rest(lying, found, place)) is not None}
    if not places:
        raise Refused(
            f"turns {list(x.sizes(first))} into {shape}: the batch of {first} is not the first axis, nor in another",
            "export it so that images stay apart, for example with flatten(1)",
        )
    place = _likeliest(lying, shape, places)
    outer, inner = places[place]
    if (place, outer, inner) == (0, 1, 1):
        return call.reshape(kept, tuple(shape[1:]))
    return Rows(call.reshape(kept, (*shape[:place], outer * inner, *shape[place + 1 :])), place, outer)


#: The sizes of an image's values with an axis for the images; which that is; how many of its rows they are within.
_Lying = tuple[tuple[int, ...], int, int]


def _opened(x: Traced | Rows) -> tuple[Traced, _Lying]:
    """What is kept, and how the images lie in it."""
    return (x.kept, (x.kept.shape, x.axis, x.outer)) if isinstance(x, Rows) else (x, ((1, *x.shape), 0, 1))


def _rest(lying: _Lying, found: list[tuple[int, list[int]]], place: int) -> tuple[int, int] | None:
    """What the images are between where they are along axis ``place`` of the new shapes; None: they cannot be there."""
    sizes, axis, outer = lying
    first, shape = found[0]
    outer, odd = divmod(math.prod(sizes[:axis]) * outer, math.prod(shape[:place]) or 1)
    inner = shape[place] // (outer * first or 1)
    wanted = ([*shape[:place], outer * batch * inner, *shape[place + 1 :]] for batch, _ in found)
    fits = all(target == other for target, (_, other) in zip(wanted, found, strict=True))
    return (outer, inner) if fits and not odd and outer * inner else None


def _likeliest(lying: _Lying, shape: list[int], places: dict[int, tuple[int, int]]) -> int:
    """Where the images are, if several axes could have them, as of a baked batch of one.

    They have an axis of their own; or are with the rows behind them where these are a part of an axis, as heads of
    attention are; else with the rows before. What is wrong here mixes images, which is refused or found to differ.
    """
    alone = [place for place, rest in places.items() if rest == (1, 1)]
    sizes, axis, outer = lying
    behind = sizes[axis] // outer if sizes[axis] > outer else (*sizes, 1)[axis + 1]
    first, *_, last = (*places, *places)
    return alone[0] if alone else last if shape[last] < behind else first


def _resolve(target: list[int], shape: tuple[int, ...], zeros: bool) -> list[int]:
    """The target with its zeros (as before) and its -1 (the rest) filled in."""
    filled = [shape[i] if size == 0 and zeros else size for i, size in enumerate(target)]
    rest = math.prod(size for size in filled if size != -1)
    if filled.count(-1) == 1 and rest > 0:
        filled[filled.index(-1)] = math.prod(shape) // rest
    if min(filled, default=1) < 0 or math.prod(filled) != math.prod(shape):
        raise Refused(f"reshapes {list(shape)} to {target}", "the sizes do not fit; export the model again")
    return filled


@imports("Squeeze", rows=None)
def squeeze(call: OnnxCall) -> Result:
    """Without the named axes of size 1."""
    axes, rows = call.setting("axes", 1), call.value(0)
    if isinstance(rows, Rows) and axes:
        call, x = replace(call, rows=rows), rows.kept
        dropped = {call.axis(axis, x) for axis in axes}
        left = call.reshape(x, tuple(size for i, size in enumerate(x.shape, 1) if i not in dropped))
        return call.placed(left, rows.axis - sum(i <= rows.axis for i in dropped), rows.outer)
    x = call.traced()
    if not axes:
        if call.builder.batch.baked in (None, 1):
            raise Refused("drops all axes of size 1, and the batch may be one of them", "name the axes")
        axes = [i for i, size in enumerate(x.shape, 1) if size == 1]
    dropped = {call.axis(axis, x) for axis in axes}
    return call.reshape(x, tuple(size for i, size in enumerate(x.shape, 1) if i not in dropped))


@imports("Unsqueeze", rows=None)
def unsqueeze(call: OnnxCall) -> Result:
    """With new axes of size 1."""
    x, axes = rows if isinstance(rows := call.value(0), Rows) else call.traced(), call.setting("axes", 1, [])
    kept, (sizes, axis, outer) = _opened(x)
    rank = len(sizes) + len(axes)
    added = {new % rank for new in axes}
    if len(added) != len(axes):
        raise Refused(f"adds the axes {axes}", "name each new axis once")
    old = [place for place in range(rank) if place not in added]
    shape = tuple(sizes[old.index(place)] if place in old else 1 for place in range(rank))
    if isinstance(x, Traced) and old[0] == 0:
        return call.reshape(kept, shape[1:])
    return Rows(call.reshape(kept, shape), old[axis], outer)


@imports("Expand", rows=None)
def expand(call: OnnxCall) -> Result:
    """Repeats axes of size 1, and puts new ones in front; the batch stays."""
    x = rows if isinstance(rows := call.value(0), Rows) else call.traced()
    kept, (sizes, axis, outer) = _opened(x)
    shapes = [np.broadcast_shapes(x.sizes(batch), tuple(target)) for batch, target in call.at_batches(1)]
    new = len(shapes[0]) - len(sizes)
    place = axis + new
    shape = (*shapes[0][:place], sizes[axis], *shapes[0][place + 1 :])
    for batch, found in zip(call.builder.batch.declared, shapes, strict=True):
        if found != (*shape[:place], batch * sizes[axis], *shape[place + 1 :]):
            raise Refused(
                f"turns {list(x.sizes(batch))} into {list(found)}, which repeats images",
                "keep one row an image",
            )
    if isinstance(x, Traced) and not new:
        return x if shape[1:] == x.shape else call.function(torch.broadcast_to, x, (-1, *shape[1:]))
    opened = call.reshape(kept, (*[1] * new, *sizes))
    return call.placed(call.function(torch.broadcast_to, opened, (-1, *shape)), place, outer)


@imports("DepthToSpace")
def depth_to_space(call: OnnxCall) -> Result:
    """Blocks of channels into blocks of pixels."""
    x, block = call.image(), call.attribute("blocksize")
    channels, height, width = x.shape
    inner = channels // block**2
    apart, order = (inner, block, block, height, width), (0, 1, 4, 2, 5, 3)
    if call.attribute("mode", "DCR") == "DCR":
        apart, order = (block, block, inner, height, width), (0, 3, 4, 1, 5, 2)
    moved = call.function(torch.permute, call.reshape(x, apart), order)
    return call.reshape(moved, (inner, height * block, width * block))


@imports("SpaceToDepth")
def space_to_depth(call: OnnxCall) -> Result:
    """Blocks of pixels into blocks of channels."""
    x, block = call.image(), call.attribute("blocksize")
    channels, height, width = x.shape[0], x.shape[1] // block, x.shape[2] // block
    apart = call.reshape(x, (channels, height, block, width, block))
    return call.reshape(call.function(torch.permute, apart, (0, 3, 5, 1, 2, 4)), (channels * block**2, height, width))


@imports("Transpose", rows=None)
def transpose(call: OnnxCall) -> Result:
    """Another order of axes, wherever that leaves the images."""
    x = rows if isinstance(rows := call.value(0), Rows) else call.traced()
    kept, (sizes, axis, outer) = _opened(x)
    order = tuple(call.attribute("perm", range(len(sizes) - 1, -1, -1)))
    if isinstance(x, Traced) and order[:1] == (0,):
        return call.builder.permute(call.name, x, order)
    moved = call.builder.permute(call.name, call.reshape(kept, sizes), (0, *(place + 1 for place in order)))
    return call.placed(moved, order.index(axis), outer)
