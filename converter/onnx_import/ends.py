"""What is left out at either end: a spiking network takes images as they are, and accumulates logits.

Many classifiers end in a softmax, and quantised ones round their input and their logits as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx

from converter.onnx_import.registry import OnnxCall
from seenn.capture import Refused

_LAYOUT = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_PROBABILITIES = ("Softmax", "LogSoftmax")  # a sigmoid goes later: it also says what the scores mean
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
        if node.op_type in (*_PROBABILITIES, *_ROUNDING):
            yield node
        if node.op_type not in (*_LAYOUT, *_ROUNDING) or not node.input:
            return
        name = node.input[0]


def _first(graph: onnx.GraphProto, images: str) -> Iterable[onnx.NodeProto]:
    names = {images}
    for node in graph.node:
        if node.input and node.input[0] in names:
            if node.op_type in _ROUNDING:
                yield node
            if node.op_type in (*_LAYOUT, *_ROUNDING):
                names.update(node.output)


def _paired(nodes: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    found = list(nodes)
    counts = {sum(node.op_type == op for node in found) for op in _ROUNDING}
    return [node for node in found if node.op_type not in _ROUNDING or len(counts) == 1]


def leave_out(call: OnnxCall) -> str:
    """Turns the node into an ``Identity``, in place; returns the note.

    Raises:
        Refused: a softmax does not go over the classes.
    """
    x, kind, name = call.traced(), call.node.op_type, call.name
    classes = math.prod(x.shape)
    over = classes
    if kind in ("Softmax", "LogSoftmax"):
        axis = call.axis(call.attribute("axis", -1 if call.opset >= 13 else 1), x) - 1
        over = x.shape[axis] if call.opset >= 13 else math.prod(x.shape[axis:])  # older ones flatten all from there on
    if over != classes:
        raise Refused(f"goes over {over} of {classes} values per image", "expected a softmax over the classes")
    call.node.op_type = "Identity"
    del call.node.attribute[:], call.node.input[1:]
    if kind in _ROUNDING:
        return "rounding of the input or of the logits to whole numbers is left out"
    return f"the final {kind} {name!r} is left out: the network returns logits"
