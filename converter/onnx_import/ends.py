"""What quantised classifiers round at either end, and a spiking network leaves out: their input and their scores."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

LAYOUT = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def find_ends(graph: onnx.GraphProto, images: str) -> list[onnx.NodeProto]:
    """The nodes to be left out: those whose only use is the output, and those that only see the input.

    Nodes that only change the layout are looked through. Rounding goes in pairs.
    """
    return [*_paired(_last(graph)), *_paired(_first(graph, images))]


def _last(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    makers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while name in makers and sum(list(node.input).count(name) for node in graph.node) == (name != graph.output[0].name):
        node: onnx.NodeProto = makers[name]
        if node.op_type in _ROUNDING:
            yield node
        if node.op_type not in (*LAYOUT, *_ROUNDING) or not node.input:
            return
        name = node.input[0]


def _first(graph: onnx.GraphProto, images: str) -> Iterable[onnx.NodeProto]:
    names = {images}
    for node in graph.node:
        if node.input and node.input[0] in names:
            if node.op_type in _ROUNDING:
                yield node
            if node.op_type in (*LAYOUT, *_ROUNDING):
                names.update(node.output)


def _paired(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    found = list(nodes)
    counts = {sum(node.op_type == op for node in found) for op in _ROUNDING}
    return [node for node in found if node.op_type not in _ROUNDING or len(counts) == 1]


def leave_out(node: onnx.NodeProto) -> str:
    """Turns the node into an ``Identity``, in place; returns the note."""
    node.op_type, node.domain = "Identity", ""
    del node.attribute[:], node.input[1:]
    return "rounding of the input or of the logits to whole numbers is left out"
