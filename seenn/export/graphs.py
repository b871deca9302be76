"""Parts of a network as programs of torch, and as ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from seenn.errors import UnsupportedError, first_line
from seenn.export.parts import Part

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20
IR_VERSION = 10  # what onnxruntime 1.18 reads
BATCH = "batch"  # the name of every axis whose size follows the images
_LARGEST = (1 << 31) - (1 << 20)  # bytes of a protobuf message


def program(part: Part, values: Mapping[str, Tensor]) -> ExportedProgram:
    """``part`` as torch sees it, for any batch.

    Raises:
        UnsupportedError: torch cannot follow it.
    """
    given = tuple(values[name] for name in part.inputs)
    shapes = (tuple({0: Dim.DYNAMIC} for _ in given),)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(part.eval(), given, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever the compiler stumbles over
        raise UnsupportedError(
            f"torch.export cannot follow {type(part).__name__.lower()} for any batch ({first_line(error)}): ops and "
            "exit rules of your own must compute with tensors alone, len(x) being x.shape[0]"
        ) from error


def onnx_model(part: Part, values: Mapping[str, Tensor]) -> ModelProto:
    """``part`` as an ONNX model, its inputs and outputs called as the part calls them.

    Raises:
        UnsupportedError: an op has no ONNX form, or the weights do not fit into one file.
    """
    found = program(part, values)
    try:
        with _quiet():
            made = torch.onnx.export(
                found,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert made is not None
        model = made.model_proto
    except Exception as error:
        raise UnsupportedError(f"no ONNX form of {type(part).__name__.lower()} ({first_line(error)})") from error
    model.ir_version = IR_VERSION
    model.graph.ClearField("value_info")
    model.ClearField("metadata_props")
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = BATCH
    if model.ByteSize() > _LARGEST:
        raise UnsupportedError(f"{model.ByteSize():,} bytes of weights; one ONNX file holds {_LARGEST:,}")
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Compilers talk on every channel; what is wrong with a file is found by running it."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
