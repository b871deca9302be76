"""Reductions over axes of one image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from converter.onnx_import.registry import OnnxCall, Result, imports
from seenn.capture import Refused

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}


@imports(*_FUNCTIONS)
def reduce(call: OnnxCall) -> Result:
    """Over ``axes``, which must be named: all of them would include the batch."""
    x, axes = call.traced(), call.setting("axes", 1, [])
    if not axes and call.attribute("noop_with_empty_axes", 0):
        return x
    if not axes:
        raise Refused("reduces over all axes, the batch included", "name the axes: x.mean((2, 3))")
    dims = tuple(sorted(call.axis(axis, x) for axis in axes))
    return call.function(_FUNCTIONS[call.node.op_type], x, dims, bool(call.attribute("keepdims", 1)))
