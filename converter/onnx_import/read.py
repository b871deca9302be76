"""From a file to a checked ONNX model: known versions, complete tensors, an order that computes."""

from __future__ import annotations

from pathlib import Path

import onnx

from converter.onnx_import.limits import MAX_FILE_BYTES, MAX_NODES, MIN_IR, MIN_OPSET
from converter.onnx_import.tensors import load_tensors, stored_tensors
from seenn.errors import CheckpointError, UnsupportedError
from seenn.export.graphs import PRODUCER
from seenn.files import stand_in

DOMAINS = ("", "ai.onnx")  # two spellings of ONNX's own


def read_model(path: Path) -> tuple[onnx.ModelProto, int]:
    """The model in the file, its weights in memory, and its opset.

    Raises:
        CheckpointError: missing, damaged, inconsistent, too large, or with external data elsewhere.
        UnsupportedError: a version, a type or local functions that are not supported.
    """
    if not path.is_file():
        what = "a folder; name the file in it" if path.is_dir() else "no such file; check the path"
        raise CheckpointError(f"{path}: {what}")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path}: the file is empty; copy it again")
    if size > MAX_FILE_BYTES:
        raise CheckpointError(f"{path}: has {size:,} bytes; expected an ONNX model of at most {MAX_FILE_BYTES:,}")
    if said := stand_in(path):
        raise CheckpointError(f"{path}: {said}")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except Exception as error:  # protobuf has several implementations
        raise CheckpointError(
            f"{path}: not an ONNX model, or damaged or truncated: {error}; export it again"
        ) from error
    if model.producer_name == PRODUCER:
        raise UnsupportedError(
            f"{path}: a spiking network that `seenn export` wrote, not an ANN; the commands after convert take the "
            ".safetensors file that it was exported from, and convert the ANN before that"
        )
    opset = _check_versions(model, path)
    if model.functions:
        names = ", ".join(sorted(str(function.name) for function in model.functions)[:8])
        raise UnsupportedError(
            f"{path}: defines functions of its own ({names}); write them out with "
            "onnx.inliner.inline_local_functions and save the model again"
        )
    if len(model.graph.node) > MAX_NODES:
        raise CheckpointError(f"{path}: {len(model.graph.node):,} nodes; expected at most {MAX_NODES:,}")
    _check_names(model.graph, path)
    load_tensors(model, path)
    open_ = [value.type.tensor_type for value in (*model.graph.input, *model.graph.output) if _has_no_shape(value)]
    for tensor_type in open_:
        tensor_type.shape.SetInParent()  # which the checker asks for, and nothing else
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, and whatever else the C++ code raises
        text = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: onnx's checker refuses the model: {text}; export it again") from error
    for tensor_type in open_:
        tensor_type.ClearField("shape")
    return model, opset


def _has_no_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape")


def _check_versions(model: onnx.ModelProto, path: Path) -> int:
    opsets: list[int] = sorted({entry.version for entry in model.opset_import if entry.domain in DOMAINS})
    if not model.graph.node or not opsets:
        raise CheckpointError(f"{path}: not an ONNX model: no nodes, or no opset; expected an exported classifier")
    if not MIN_IR <= model.ir_version <= onnx.IR_VERSION:
        raise UnsupportedError(
            f"{path}: IR version {model.ir_version}; expected {MIN_IR} to {onnx.IR_VERSION}, which onnx "
            f"{onnx.__version__} knows; export the model again, or upgrade onnx"
        )
    newest = onnx.defs.onnx_opset_version()
    if len(opsets) > 1 or not MIN_OPSET <= opsets[0] <= newest:
        raise UnsupportedError(
            f"{path}: opset {', '.join(map(str, opsets))}; expected one from {MIN_OPSET} to {newest}, which onnx "
            f"{onnx.__version__} knows; export the model again, or convert it with onnx.version_converter"
        )
    return opsets[0]


def _check_names(graph: onnx.GraphProto, path: Path) -> None:
    """Text that is not UTF-8 comes out of protobuf as bytes."""
    names = [value.name for value in (*graph.input, *graph.output)]
    for tensor in stored_tensors(graph):
        names += [tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value))]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise CheckpointError(f"{path}: the name {wrong[0]!r} is not UTF-8 text: the file is damaged; export it again")
