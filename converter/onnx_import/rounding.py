"""A quantised model without its rounding: what is left of each quantiser is its limits.

Rounding is no continuous function: where two programs differ in the last bit, a value may fall on either side. Without
it they must agree as any other two; with it only about as well as steps so fine allow.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from seenn.core.ops import Quantiser


class _Limits(nn.Module):
    """``clip(x, low, high)``, limits per channel or not, in the activation's unit."""

    low: Tensor
    high: Tensor

    def __init__(self, quantiser: Quantiser) -> None:
        super().__init__()
        grid, self.axis = quantiser.grid, quantiser.own_channel_axis
        unit = grid.unit.detach() / grid.steps
        self.register_buffer("low", unit * grid.low)
        self.register_buffer("high", unit * grid.high)

    def forward(self, x: Tensor) -> Tensor:
        shape = [-1 if axis == self.axis else 1 for axis in range(x.dim())]
        low, high = (limit.view(shape) if limit.dim() else limit for limit in (self.low, self.high))
        return torch.minimum(torch.maximum(x, low), high)


def module_without_rounding(module: fx.GraphModule) -> fx.GraphModule | None:
    """A copy with limits in place of quantisers; None where it has none."""
    names = [name for name, child in module.named_modules() if isinstance(child, Quantiser)]
    changed = copy.deepcopy(module)
    for name in names:
        changed.set_submodule(name, _Limits(changed.get_submodule(name)))  # type: ignore[arg-type]
    return changed if names else None


def model_without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with limits in place of every pair of nodes that rounds an activation."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    constants = set(known)
    for node in graph.node:  # what is made of constants is none of an activation's
        if all(name in constants for name in node.input if name):
            constants.update(node.output)
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                known[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[0] in constants:
            nodes.append(node)
        elif node.op_type == "DequantizeLinear":
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]]))
        else:
            nodes += _limits(node, known, graph)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return changed


def _limits(node: onnx.NodeProto, known: Mapping[str, np.ndarray], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """``min(max(x, low), high)`` for one ``QuantizeLinear``."""
    scale = known[node.input[1]].astype(np.float32)
    zero = known[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros((), np.uint8)
    kind = np.iinfo(zero.dtype)
    names = [f"{node.output[0]}_{end}" for end in ("low", "high")]
    for name, limit in zip(names, (kind.min, kind.max), strict=True):
        value = scale * (np.float32(limit) - zero.flat[0].astype(np.float32))
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32).reshape(_along(node, scale)), name))
    middle = f"{node.output[0]}_above"
    return [
        helper.make_node("Max", [node.input[0], names[0]], [middle]),
        helper.make_node("Min", [middle, names[1]], [node.output[0]]),
    ]


def _along(node: onnx.NodeProto, scale: np.ndarray) -> tuple[int, ...]:
    """The shape in which limits of a channel each meet an image."""
    return (-1, 1, 1) if scale.size > 1 else ()
