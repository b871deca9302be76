"""Tensors stored in a model file: as many bytes as they declare, and inside the model's folder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor

from converter.onnx_import.limits import MAX_FILE_BYTES
from seenn.errors import CheckpointError, UnsupportedError, first_line

_NAMES: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
_NUMBERS = "FLOAT DOUBLE FLOAT16 BFLOAT16 BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64"


def type_name(number: int) -> str:
    """Of a type of elements; a damaged file may hold any number."""
    return _NAMES.get(number, f"number {number}")


def load_tensors(model: onnx.ModelProto, path: Path) -> None:
    """Checks every tensor of the model, and reads external data into it, in place.

    Raises:
        CheckpointError: a tensor declares another size than it has, or its file is missing or elsewhere.
        UnsupportedError: sparse tensors, or tensors of strings or 4-bit and 8-bit floats.
    """
    if model.graph.sparse_initializer:
        names = [tensor.values.name for tensor in model.graph.sparse_initializer]
        raise UnsupportedError(f"{path}: sparse weights {names} are not supported; export dense ones")
    total = path.stat().st_size
    for tensor in stored_tensors(model.graph):
        where = f"{path}: tensor {tensor.name!r}"
        kind = type_name(tensor.data_type)
        if kind not in _NUMBERS.split():
            raise UnsupportedError(f"{where} is of type {kind}; expected numbers")
        if any(size < 0 for size in tensor.dims):
            raise CheckpointError(f"{where} declares the shape {list(tensor.dims)}: export the model again")
        if tensor.data_location == TensorProto.EXTERNAL:
            declared = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            total += declared
            if total > MAX_FILE_BYTES:
                raise CheckpointError(f"{path}: more than {MAX_FILE_BYTES:,} bytes of weights; expected a classifier")
            _read_external(tensor, declared, path)
        try:
            numpy_helper.to_array(tensor)
        except ValueError as error:
            raise CheckpointError(
                f"{where} declares {math.prod(tensor.dims):,} values, shape {list(tensor.dims)}, and holds others: "
                f"{error}; the file is damaged or truncated: export it again"
            ) from error


def stored_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """The weights, and the tensors in attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _read_external(tensor: TensorProto, declared: int, path: Path) -> None:
    """As many bytes as the tensor's shape needs; onnx refuses files outside the model's folder, links and pipes."""
    where = f"{path}: external data of tensor {tensor.name!r}"
    length = {entry.key: entry.value for entry in tensor.external_data}.get("length", str(declared))
    if length != str(declared):
        raise CheckpointError(
            f"{where}: its shape {list(tensor.dims)} needs {declared:,} bytes; the entry names {length}; the file is "
            "damaged, or of another model: export it again"
        )
    tensor.external_data.add(key="length", value=length)
    try:
        load_external_data_for_tensor(tensor, str(path.parent.resolve()))
    except Exception as error:  # onnx's own errors have no common base
        raise CheckpointError(f"{where} cannot be read: {first_line(error)}; copy it beside the model") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]
