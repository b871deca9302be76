"""Nodes that give the same values another shape."""

from __future__ import annotations

import math

import numpy as np
import torch

from converter.onnx_import.registry import OnnxCall, Result, imports
from seenn.capture import Refused


@imports("Flatten")
def flatten(call: OnnxCall) -> Result:
    """Into a matrix; only from axis 1 on do images stay apart."""
    x, axis = call.traced(), call.attribute("axis", 1)
    if axis % (len(x.shape) + 1) != 1 or not x.shape:
        raise Refused(f"flattens {len(x.shape) + 1} axes around axis {axis}", "flatten from axis 1 on")
    return call.reshape(x, (math.prod(x.shape),))


@imports("Reshape")
def reshape(call: OnnxCall) -> Result:
    """Any reshape that leaves the batch in front, at both batch sizes; a baked one becomes free."""
    x, zeros = call.traced(), not call.attribute("allowzero", 0)
    found = [_resolve(target, (batch, *x.shape), zeros) for batch, target in call.at_batches(1)]
    return call.reshape(x, call.per_image(x, found))


def _resolve(target: list[int], shape: tuple[int, ...], zeros: bool) -> list[int]:
    """The target with its zeros (as before) and its -1 (the rest) filled in."""
    filled = [shape[i] if size == 0 and zeros else size for i, size in enumerate(target)]
    rest = math.prod(size for size in filled if size != -1)
    if filled.count(-1) == 1 and rest > 0:
        filled[filled.index(-1)] = math.prod(shape) // rest
    if min(filled, default=1) < 0 or math.prod(filled) != math.prod(shape):
        raise Refused(f"reshapes {list(shape)} to {target}", "the sizes do not fit; export the model again")
    return filled


@imports("Squeeze")
def squeeze(call: OnnxCall) -> Result:
    """Without the named axes of size 1."""
    x, axes = call.traced(), call.setting("axes", 1)
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


@imports("Transpose")
def transpose(call: OnnxCall) -> Result:
    """Another order of axes, the batch still first."""
    x = call.traced()
    order = tuple(call.attribute("perm", range(len(x.shape), -1, -1)))
    if order[:1] != (0,):
        raise Refused(f"moves the batch axis (perm={list(order)})", "keep the batch axis first")
    return call.builder.permute(call.name, x, order)
