"""Nodes that give the same values another shape."""

from __future__ import annotations

import math

import numpy as np
import torch

from converter.onnx_import.registry import OnnxCall, Result, few, imports
from converter.onnx_import.values import Known
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
    x, target = call.traced(), call.value(1)
    if not isinstance(target, Known):
        raise Refused("its shape is computed from the image", "store the shape as a constant")
    zeros = not call.attribute("allowzero", 0)
    found = [
        _resolve(few(at), (batch, *x.shape), zeros)
        for at, batch in zip(target.at, call.builder.batch.declared, strict=True)
    ]
    for shape, batch in zip(found, call.builder.batch.declared, strict=True):
        if shape[:1] != [batch] or shape[1:] != found[0][1:]:
            raise Refused(
                f"reshapes {[batch, *x.shape]} to {shape}, where the batch of {batch} is no longer the first axis",
                "export it so that each image is reshaped on its own, for example with flatten(1)",
            )
    return call.reshape(x, tuple(found[0][1:]))


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
    if any(x.shape[axis - 1] != 1 for axis in dropped):
        raise Refused(f"drops the axes {sorted(dropped)} of {list(x.shape)} per image", "expected axes of size 1")
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
    x, target = call.traced(), call.value(1)
    if not isinstance(target, Known):
        raise Refused("its shape is computed from the image", "store the shape as a constant")
    sizes = [
        np.broadcast_shapes((batch, *x.shape), tuple(few(at)))
        for at, batch in zip(target.at, call.builder.batch.declared, strict=True)
    ]
    if [s[0] for s in sizes] != list(call.builder.batch.declared) or any(s[1:] != sizes[0][1:] for s in sizes):
        raise Refused("repeats along the batch", "keep images independent")
    rest = sizes[0][1:]
    return x if rest == x.shape else call.function(torch.Tensor.expand, x, -1, *rest)


@imports("DepthToSpace")
def depth_to_space(call: OnnxCall) -> Result:
    """Blocks of channels into blocks of pixels."""
    x, block = call.image(), call.attribute("blocksize")
    channels, height, width = x.shape
    inner = channels // block**2
    if call.attribute("mode", "DCR") == "DCR":
        parts = call.function(torch.permute, call.reshape(x, (block, block, inner, height, width)), (0, 3, 4, 1, 5, 2))
    else:
        parts = call.function(torch.permute, call.reshape(x, (inner, block, block, height, width)), (0, 1, 4, 2, 5, 3))
    return call.reshape(parts, (inner, height * block, width * block))


@imports("SpaceToDepth")
def space_to_depth(call: OnnxCall) -> Result:
    """Blocks of pixels into blocks of channels."""
    x, block = call.image(), call.attribute("blocksize")
    channels, height, width = x.shape[0], x.shape[1] // block, x.shape[2] // block
    parts = call.function(torch.permute, call.reshape(x, (channels, height, block, width, block)), (0, 3, 5, 1, 2, 4))
    return call.reshape(parts, (channels * block**2, height, width))


@imports("Transpose")
def transpose(call: OnnxCall) -> Result:
    """Another order of axes, the batch still first."""
    x = call.traced()
    order = tuple(call.attribute("perm", range(len(x.shape), -1, -1)))
    if order[:1] != (0,):
        raise Refused(f"moves the batch axis (perm={list(order)})", "keep the batch axis first")
    return x if order == tuple(range(len(order))) else call.function(torch.permute, x, order)
