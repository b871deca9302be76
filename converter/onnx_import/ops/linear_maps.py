"""Nodes that put values elsewhere by constant places, or add them up with constant weights."""

from __future__ import annotations

import numpy as np
import torch

from converter.onnx_import.registry import OnnxCall, Result, by_rows, imports
from converter.onnx_import.values import Traced
from seenn.capture import Refused


@imports("CumSum", rows=1)
def cumulative_sum(call: OnnxCall) -> Result:
    """``exclusive`` leaves the value itself out; ``reverse`` begins at the end."""
    x = call.traced()
    axis = call.axis(int(call.array(1).reshape(-1)[0]), x)
    turned = call.function(torch.flip, x, (axis,)) if call.attribute("reverse", 0) else x
    total = call.function(torch.cumsum, turned, axis)
    if call.attribute("exclusive", 0):
        total = call.function(torch.sub, total, turned)
    return call.function(torch.flip, total, (axis,)) if call.attribute("reverse", 0) else total


@imports("Trilu", rows=None)
def triangle(call: OnnxCall) -> Result:
    """The upper triangle of the last two axes, or the lower."""
    return by_rows(1, _triangle, call, inner=2)


def _triangle(call: OnnxCall) -> Result:
    x, k = call.traced(), 0 if call.value(1) is None else int(call.array(1))
    if len(x.shape) < 2:
        raise Refused("takes a triangle across the batch", "keep the batch axis first")
    return call.function(torch.triu if call.attribute("upper", 1) else torch.tril, x, k)


@imports("Tile", rows=1)
def tile(call: OnnxCall) -> Result:
    x, counts = call.traced(), call.numbers(1)
    _, images = call.images(x)
    if counts[images] != 1:
        raise Refused(f"repeats images {counts[images]} times", "keep one row an image")
    return call.function(torch.tile, x, (*[1] * (call.rows is not None), *counts))


@imports("GatherElements")
def gather_elements(call: OnnxCall) -> Result:
    """By places that are the same for every image: exporters write a row for each."""
    x = call.traced()
    axis = call.axis(call.attribute("axis", 0), x)
    places = call.alike(1) % x.shape[axis - 1]
    if places.shape[1:] != tuple(n if i == axis else size for i, (n, size) in enumerate(
        zip(places.shape[1:], x.shape, strict=True), start=1)):  # fmt: skip
        raise Refused(
            f"picks by places of shape {list(places.shape)} from {list(x.shape)}", "name a place of every row"
        )
    return call.function(torch.take_along_dim, x, call.buffer(torch.from_numpy(places.astype(np.int64))), axis)


@imports("Einsum")
def einsum(call: OnnxCall) -> Result:
    """Of activations and constants."""
    operands = [value if isinstance(value := call.value(i), Traced) else call.buffer(call.tensor(i))
                for i in range(len(call.inputs))]  # fmt: skip
    return call.function(torch.einsum, call.attribute("equation"), *operands)
