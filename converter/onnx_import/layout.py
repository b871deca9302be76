"""Which axis of the input holds the channels: the second, as in torch, or the last, as in Keras and TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

_PASSED = frozenset(
    ("Add", "Cast", "Clip", "DequantizeLinear", "Div", "Identity", "Mul", "QuantizeLinear", "Sub")
)  # fmt: skip
_CHANNELS = (1, 3, 4)


def channels_last(graph: onnx.GraphProto, images: str, sizes: Sequence[int | None]) -> bool:
    """Whether the file takes ``[B, H, W, C]``.

    It does if all that reads the images moves their last axis to the second; if nothing but a look at sizes can tell,
    then if the last is a number of channels and the second is none.

    Args:
        graph: of a classifier.
        images: the name of its input.
        sizes: of all its axes, None where they are open.
    """
    last = len(sizes) - 1
    if last < 2:
        return False
    names, readers = {images}, []
    for node in graph.node:
        if names.intersection(node.input):
            if node.op_type in _PASSED:
                names.update(node.output)
            else:
                readers.append(node)
    moved = [0, last, *range(1, last)]
    if readers and all(_order(node) == moved for node in readers):
        return True
    by_name = any(node.op_type in ("Conv", "MaxPool", "AveragePool", "BatchNormalization") for node in readers)
    return last == 3 and not by_name and sizes[last] in _CHANNELS and sizes[1] not in _CHANNELS


def _order(node: onnx.NodeProto) -> list[int] | None:
    return next((list(a.ints) for a in node.attribute if node.op_type == "Transpose" and a.name == "perm"), None)
