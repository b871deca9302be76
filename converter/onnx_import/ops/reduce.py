"""Reductions over axes of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from converter.onnx_import.registry import OnnxCall, Result, by_rows, imports
from converter.onnx_import.values import Rows
from seenn.capture import Refused

#: What reduces, with its arguments between the value and the axes.
_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], *tuple[Any, ...]]] = {
    "ReduceL1": (torch.linalg.vector_norm, 1),
    "ReduceL2": (torch.linalg.vector_norm, 2),
    "ReduceLogSum": (torch.sum,),
    "ReduceLogSumExp": (torch.logsumexp,),
    "ReduceMax": (torch.amax,),
    "ReduceMean": (torch.mean,),
    "ReduceMin": (torch.amin,),
    "ReduceSum": (torch.sum,),
    "ReduceSumSquare": (torch.sum,),
}
#: What those that do more than reduce make of one value alone.
_ALONE: dict[str, Callable[[Tensor], Tensor]] = {
    "ReduceL1": torch.abs,
    "ReduceL2": torch.abs,
    "ReduceLogSum": torch.log,
    "ReduceSumSquare": torch.square,
}


@imports(*_FUNCTIONS, rows=None)
def reduce(call: OnnxCall) -> Result:
    """Over ``axes``, which must be named: all of them would include the batch."""
    made, rows = by_rows(1, _reduce, call), call.value(0)
    if not isinstance(rows, Rows) or not isinstance(made, Rows) or call.attribute("keepdims", 1):
        return made
    gone = sum(axis % len(rows.kept.shape) < rows.axis for axis in call.setting("axes", 1, []))
    return call.placed(made.kept, rows.axis - gone, rows.outer)


def _reduce(call: OnnxCall) -> Result:
    x, axes, kind = call.traced(), call.setting("axes", 1, []), call.node.op_type
    alone = _ALONE.get(kind)
    if not axes and call.attribute("noop_with_empty_axes", 0):
        return x if alone is None else call.function(alone, x)
    if not axes:
        raise Refused("reduces over all axes, the batch included", "name the axes: x.mean((2, 3))")
    dims, keepdim = tuple(sorted(call.axis(axis, x) for axis in axes)), bool(call.attribute("keepdims", 1))
    reducing, *options = _FUNCTIONS[kind]
    if kind == "ReduceSumSquare":
        x = call.function(torch.square, x)
    total = call.function(reducing, x, *options, dims, keepdim)
    return call.function(torch.log, total) if kind == "ReduceLogSum" else total
