"""Tensors stored in a model file: as many bytes as they declare, and inside the model's folder."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto, numpy_helper

from converter.onnx_import.limits import MAX_FILE_BYTES
from converter.onnx_import.values import Array
from seenn.errors import CheckpointError, UnsupportedError

_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.BOOL: 1,
    TensorProto.INT8: 1,
    TensorProto.INT16: 2,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT8: 1,
    TensorProto.UINT16: 2,
    TensorProto.UINT32: 4,
    TensorProto.UINT64: 8,
}
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


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
        if tensor.data_type not in _BYTES:
            raise UnsupportedError(f"{path}: tensor {tensor.name!r} is of type {_type_name(tensor)}; expected numbers")
        if any(size < 0 for size in tensor.dims):
            raise CheckpointError(f"{path}: tensor {tensor.name!r} declares the shape {list(tensor.dims)}")
        values = math.prod(tensor.dims)
        if tensor.data_location == TensorProto.EXTERNAL:
            declared = values * _BYTES[tensor.data_type]
            total += declared
            if total > MAX_FILE_BYTES:
                raise CheckpointError(f"{path}: more than {MAX_FILE_BYTES:,} bytes of weights; expected a classifier")
            data = _read_external(tensor, declared, path)
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = data
        elif (held := _held(tensor)) != values:
            raise CheckpointError(
                f"{path}: tensor {tensor.name!r} declares {values:,} values, shape {list(tensor.dims)}, and holds "
                f"{held:,}; the file is damaged or truncated"
            )


def to_array(tensor: TensorProto) -> Array:
    """The values of a checked tensor."""
    return numpy_helper.to_array(tensor)


def stored_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """The weights, and the tensors in attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors


def _held(tensor: TensorProto) -> int:
    """How many values the bytes in the file make."""
    if tensor.HasField("raw_data"):
        width = _BYTES[tensor.data_type]
        return len(tensor.raw_data) // width if len(tensor.raw_data) % width == 0 else -1
    return max(len(getattr(tensor, field)) for field in _FIELDS)


def _type_name(tensor: TensorProto) -> str:
    known = tensor.data_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(tensor.data_type) if known else f"number {tensor.data_type}"


def _read_external(tensor: TensorProto, declared: int, path: Path) -> bytes:
    where = f"{path}: external data of tensor {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _inside(entries.get("location", ""), path, where)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(declared)))
        available = file.stat().st_size
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{where}: {error}") from error
    if length != declared or offset < 0 or offset + length > available:
        raise CheckpointError(
            f"{where}: its shape {list(tensor.dims)} needs {declared:,} bytes; the entry names {length:,} at "
            f"{offset:,} in {file.name}, which has {available:,}; the file is damaged, truncated or of another model"
        )
    with file.open("rb") as opened:
        opened.seek(offset)
        data = opened.read(length)
    if len(data) != length:
        raise CheckpointError(f"{where}: {file.name} ended early; copy it again")
    return data


def _inside(location: str, path: Path, where: str) -> Path:
    """The file that ``location`` names, which must lie in the model's folder; links may not lead out of it."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if (
        not location
        or "\0" in location
        or posix.is_absolute()
        or windows.anchor
        or ".." in (*posix.parts, *windows.parts)
    ):
        raise CheckpointError(f"{where} is at {location!r}; expected a path inside the model's folder")
    folder = path.parent.resolve()
    try:
        file = (folder / location).resolve()
        regular = stat.S_ISREG(file.stat().st_mode)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{where}: cannot open {location!r}: {error}; copy it beside the model") from error
    if not file.is_relative_to(folder):
        raise CheckpointError(f"{where}: {location!r} is a link out of the model's folder, to {file}; copy it there")
    if not regular:
        raise CheckpointError(f"{where}: {location!r} is not a file")
    return file
