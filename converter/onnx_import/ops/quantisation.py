"""Quantised activations: ``QuantizeLinear`` is a quantiser in real units, ``DequantizeLinear`` has nothing left to do.

Weights are constants, which are folded into real numbers before they come here.
"""

from __future__ import annotations

import numpy as np
import onnx
from torch import fx, nn

from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Array, Traced
from seenn.capture import Refused
from seenn.core.ops import quantiser


@imports("QuantizeLinear")
def quantise(call: OnnxCall) -> Result:
    """``s · clip(round(x / s), low − z, high − z)``, the limits those of the type; a ReLU before it goes into them."""
    x, (scale, zero) = call.traced(), _grid(call)
    if (zero != zero.flat[0]).any():
        raise Refused("has another zero point for each channel", "quantise activations with one zero point")
    limits = np.iinfo(zero.dtype)
    low, high = (int(limit) - int(zero.flat[0]) for limit in (limits.min, limits.max))
    before = call.builder.made_by(x)
    if isinstance(before, nn.ReLU):
        x, low = call.builder.input_of(x), 0
    axis = call.axis(call.attribute("axis", 1), x) if scale.size > 1 else 1
    try:
        module = quantiser(call.tensor(1).reshape(-1) if scale.size > 1 else float(scale.flat[0]), low, high, axis=axis)
    except ValueError as error:
        raise Refused(
            f"cannot be a quantiser: {error}", "quantise activations to 16 bits or fewer, with scales above 0"
        ) from error
    made = call.module(module, x)
    call.builder.grids[made.node] = (scale, zero)
    return made


@imports("DequantizeLinear")
def dequantise(call: OnnxCall) -> Result:
    """The same value, as long as it is on the grid on which it was quantised."""
    x, (scale, zero) = call.traced(), _grid(call)
    grids = _grids(x, call.builder.grids)
    if not grids or any(not (np.array_equal(scale, s) and np.array_equal(zero, z)) for s, z in grids):
        raise Refused("reads integers of another scale or zero point", "quantise with quant_format=QuantFormat.QDQ")
    return x


def _grid(call: OnnxCall) -> tuple[Array, Array]:
    """Scale and zero point, whose type is that of the integers."""
    scale = call.array(1)
    if call.value(2) is not None:
        return scale, call.array(2)
    kind = call.attribute("output_dtype", onnx.TensorProto.UINT8)
    return scale, np.zeros(scale.shape, onnx.helper.tensor_dtype_to_np_dtype(kind or onnx.TensorProto.UINT8))


def _grids(x: Traced, known: dict[fx.Node, tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """Those of the quantisers that ``x`` comes from, through ops that only move or choose integers."""
    found, nodes = [], [x.node]
    while nodes:
        node = nodes.pop()
        if node in known:
            found.append(known[node])
        elif not node.all_input_nodes:
            return []
        nodes += [] if node in known else node.all_input_nodes
    return found
