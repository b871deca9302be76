"""The softmax or sigmoid that many classifiers end in: a spiking network accumulates the logits before it."""

from __future__ import annotations

import math

import onnx

from converter.onnx_import.registry import OnnxCall
from seenn.capture import Refused

_LAYOUT = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze")


def find_final_softmax(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """The softmax or sigmoid whose only use is the output, be it through nodes that only change the layout."""
    makers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while name in makers and sum(list(node.input).count(name) for node in graph.node) == (name != graph.output[0].name):
        node: onnx.NodeProto = makers[name]
        if node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
            return node
        if node.op_type not in _LAYOUT or not node.input:
            return None
        name = node.input[0]
    return None


def drop_softmax(call: OnnxCall) -> str:
    """Turns the node into an ``Identity``, in place; returns the note.

    Raises:
        Refused: it does not go over the classes.
    """
    x = call.traced()
    classes = math.prod(x.shape)
    if call.node.op_type == "Sigmoid":
        over = classes
    elif call.opset < 13:  # flattens everything from the axis on
        over = math.prod(x.shape[call.axis(call.attribute("axis", 1), x) - 1 :])
    else:
        over = x.shape[call.axis(call.attribute("axis", -1), x) - 1]
    if over != classes:
        raise Refused(f"goes over {over} of {classes} values per image", "expected a softmax over the classes")
    kind, name = call.node.op_type, call.name
    call.node.op_type = "Identity"
    del call.node.attribute[:]
    return f"the final {kind} {name!r} is left out: the network returns logits"
