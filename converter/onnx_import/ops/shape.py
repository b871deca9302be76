"""Nodes that give the same values another shape."""

from __future__ import annotations

import math

import numpy as np
import torch

from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Rows
from seenn.capture import Refused


@imports("Flatten")
def flatten(call: OnnxCall) -> Result:
    """Into a matrix; only from axis 1 on do images stay apart."""
    x, axis = call.traced(), call.attribute("axis", 1)
    if axis % (len(x.shape) + 1) != 1 or not x.shape:
        raise Refused(f"flattens {len(x.shape) + 1} axes around axis {axis}", "flatten from axis 1 on")
    return call.reshape(x, (math.prod(x.shape),))


@imports("Reshape", rows=None)
def reshape(call: OnnxCall) -> Result:
    """Any reshape that leaves the batch in front, alone or with rows; a baked batch becomes free."""
    x, zeros = call.value(0), not call.attribute("allowzero", 0)
    if not isinstance(x, Rows):
        x = call.traced()
    found = [(batch, _resolve(target, x.sizes(batch), zeros)) for batch, target in call.at_batches(1)]
    kept = x.kept if isinstance(x, Rows) else x
    if any(shape[:1] != [batch] for batch, shape in found):
        ones = min(next((i for i, size in enumerate(shape) if size != 1), len(shape)) for _, shape in found)
        (rows, rest), *others = {divmod(math.prod(shape[ones : ones + 1]), batch) for batch, shape in found}
        if not others and not rest:
            apart = call.per_image(x, [(batch, rows, *shape[ones + 1 :]) for batch, shape in found])
            return Rows(call.reshape(kept, apart), ones)
    return call.reshape(kept, call.per_image(x, [shape for _, shape in found]))


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
    if isinstance(rows, Rows) and rows.ones and axes == list(range(rows.ones)):
        return Rows(rows.kept)
    x = call.traced()
    if not axes:
        if call.builder.batch.baked in (None, 1):
            raise Refused("drops all axes of size 1, and the batch may be one of them", "name the axes")
        axes = [i for i, size in enumerate(x.shape, 1) if size == 1]
    dropped = {call.axis(axis, x) for axis in axes}
    return call.reshape(x, tuple(size for i, size in enumerate(x.shape, 1) if i not in dropped))


@imports("Unsqueeze")
def unsqueeze(call: OnnxCall) -> Result:
    """With new axes of size 1 behind the batch."""
    x, axes = call.traced(), call.setting("axes", 1, [])
    rank = len(x.shape) + 1 + len(axes)
    added = {axis % rank for axis in axes}
    if 0 in added or len(added) != len(axes):
        raise Refused(f"adds the axes {axes}", "keep the batch axis first, and name each new axis once")
    sizes = iter(x.shape)
    return call.reshape(x, tuple(1 if i in added else next(sizes) for i in range(1, rank)))


@imports("Expand")
def expand(call: OnnxCall) -> Result:
    """Repeats axes of size 1; the batch stays."""
    x = call.traced()
    shapes = [np.broadcast_shapes((batch, *x.shape), tuple(target)) for batch, target in call.at_batches(1)]
    shape = call.per_image(x, shapes)
    return x if shape == x.shape else call.function(torch.broadcast_to, x, (-1, *shape))


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
    """Another order of axes, the batch still first, alone or with rows."""
    x = call.value(0)
    if isinstance(x, Rows) and not x.ones and (order := call.attribute("perm", [-1]))[0] == 0:
        return Rows(call.builder.permute(call.name, x.kept, (0, *(axis + 1 for axis in order))))
    x = call.traced()
    order = tuple(call.attribute("perm", range(len(x.shape), -1, -1)))
    if order[:1] != (0,):
        raise Refused(f"moves the batch axis (perm={list(order)})", "keep the batch axis first")
    return call.builder.permute(call.name, x, order)
