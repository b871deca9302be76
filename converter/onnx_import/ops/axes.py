"""Taking values apart and putting them together along an axis."""

from __future__ import annotations

import math
import operator
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from converter.onnx_import.registry import OnnxCall, Result, by_rows, imports
from converter.onnx_import.values import Known, Rows, Traced
from seenn.capture import Refused

_TO_THE_END = (1 << 31) - 1  # what exporters write for "all the rest"


@imports("Concat", rows=math.inf)
def concat(call: OnnxCall) -> Result:
    """``torch.cat`` of activations, and of constants that every image has, such as a class token."""
    known = [isinstance(value, Known) for value in call.inputs]
    x = call.traced(known.index(False))
    axis = call.axis(call.attribute("axis"), x)
    parts = [call.repeated(i) if constant else call.traced(i) for i, constant in enumerate(known)]
    return parts[0] if len(parts) == 1 else call.function(torch.cat, parts, axis)


@imports("Split", rows=1)
def split(call: OnnxCall) -> Result:
    """Slices; equal parts where no sizes are given, the last one smaller."""
    x = call.traced()
    axis = call.axis(call.attribute("axis", 0), x)
    total, count = x.shape[axis - 1], call.attribute("num_outputs", len(call.node.output))
    if count != len(call.node.output):
        raise Refused(f"num_outputs={count}", f"expected {len(call.node.output)}, as many as it names")
    each = -(-total // count)
    sizes = call.setting("split", 1, [max(0, min(each, total - i * each)) for i in range(count)])
    if sum(sizes) != total or min(sizes) < 0 or len(sizes) != len(call.node.output):
        raise Refused(f"splits {total} into {sizes}", f"expected {len(call.node.output)} sizes that add up")
    ends = list(accumulate(sizes))
    return tuple(_sliced(call, x, axis, slice(end - size, end)) for size, end in zip(sizes, ends, strict=True))


@imports("Slice", rows=1)
def slice_axes(call: OnnxCall) -> Result:
    """``x[:, a:b]``, one axis after the other."""
    x = call.traced()
    starts, ends = call.setting("starts", 1), call.setting("ends", 2)
    axes = call.setting("axes", 3, list(range(len(starts))))
    steps = call.setting("steps", 4, [1] * len(starts))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            axis = call.axis(axis, x)
            places = torch.tensor(range(*slice(start, end, step).indices(x.shape[axis - 1])))
            x = call.function(torch.index_select, x, axis, call.buffer(places))
            continue
        rank, images = call.images(x)
        if axis % rank == images and start == 0 and end >= _TO_THE_END and step == 1:
            continue  # the whole batch
        x = _sliced(call, x, call.axis(axis, x), slice(start, end, step))
    return x


@imports("Gather", rows=None)
def gather(call: OnnxCall) -> Result:
    """One entry of an axis (which goes), or several."""
    made, rows = by_rows(1, _gather, call), call.value(0)
    if not isinstance(rows, Rows) or not isinstance(made, Rows):
        return made
    ahead = call.attribute("axis", 0) % len(rows.kept.shape) < rows.axis  # indices have their own axes in its place
    return call.placed(made.kept, rows.axis + (call.array(1).ndim - 1 if ahead else 0), rows.outer)


def _gather(call: OnnxCall) -> Result:
    x, indices = call.traced(), call.array(1)
    axis = call.axis(call.attribute("axis", 0), x)
    size = x.shape[axis - 1]
    if not indices.size or (indices < -size).any() or (indices >= size).any():
        raise Refused(
            f"picks the entries {' '.join(str(indices).split())[:80]} of {size}", "pick entries that there are"
        )
    chosen = indices.reshape(-1) % size
    first, last = int(chosen[0]), int(chosen[-1])
    if np.array_equal(chosen, np.arange(first, last + 1)):
        x = _sliced(call, x, axis, slice(first, last + 1, 1))
    else:
        x = call.function(torch.index_select, x, axis, call.buffer(torch.from_numpy(chosen.astype(np.int64))))
    return call.reshape(x, (*x.shape[: axis - 1], *indices.shape, *x.shape[axis:]))


def _sliced(call: OnnxCall, x: Traced, axis: int, part: slice) -> Traced:
    start, stop, step = part.indices(x.shape[axis - 1])
    if (start, stop, step) == (0, x.shape[axis - 1], 1):
        return x
    index: Any = (*[slice(None)] * axis, slice(start, stop, None if step == 1 else step))
    return call.function(operator.getitem, x, index)
