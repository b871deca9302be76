"""Half and double precision as float32, in which everything is computed here."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from converter.onnx_import.tensors import stored_tensors

_OTHERS: dict[int, str] = {
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
_TYPED = ("to", "dtype", "output_dtype")  # attributes that name a type


def in_float32(graph: onnx.GraphProto) -> str | None:
    """Makes every real number of the graph a float32, in place; a note where any was another.

    Values of float16 and bfloat16 stay what they are; those of float64 are rounded.
    """
    found: set[str] = set()
    for tensor in stored_tensors(graph):
        if tensor.data_type in _OTHERS:
            found.add(_OTHERS[tensor.data_type])
            name, array = tensor.name, numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPED and attribute.i in _OTHERS:
                found.add(_OTHERS[attribute.i])
                attribute.i = TensorProto.FLOAT
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor_type = value.type.tensor_type
        if value.type.WhichOneof("value") == "tensor_type" and tensor_type.elem_type in _OTHERS:
            found.add(_OTHERS[tensor_type.elem_type])
            tensor_type.elem_type = TensorProto.FLOAT
    return f"{' and '.join(sorted(found))} is computed in float32" if found else None
