"""An ONNX file in, out a torch graph that computes what onnxruntime does."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from converter.onnx_import.integers import in_real_numbers
from converter.onnx_import.precision import in_float32
from converter.onnx_import.read import read_model
from converter.onnx_import.rebuild import ImportedModel, prune, rebuild
from converter.onnx_import.signature import (
    choose_output,
    find_signature,
    leave_out_choice,
    leave_out_inputs,
    pixels_as_floats,
)
from converter.onnx_import.verify import verify

logger = logging.getLogger(__name__)


def import_onnx(
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int] | None = None,
    default_shape: Sequence[int] | None = None,
    layout: str = "auto",
    output: str | None = None,
) -> ImportedModel:
    """Reads a classifier and verifies that the torch graph computes what onnxruntime does.

    A softmax at the very end is left out, and noted: the network returns logits; likewise the choice of the largest. A
    batch size that is baked into the file is made free. Other precisions are computed in float32, and a file that takes
    ``[B, H, W, C]`` becomes a module that takes ``[B, C, H, W]``; both are noted.

    Args:
        path: a ``.onnx`` file; external data lies beside it.
        input_shape: C, H, W (of signals C, L; of vectors F); must agree with the file.
        default_shape: likewise, only for what the file leaves open.
        layout: ``nhwc``: the file has the channels last; ``nchw``: second; ``auto``: found out.
        output: the name or number of the output with the scores, where there are several.

    Raises:
        CheckpointError: the file is missing, damaged, hostile or too large.
        UnsupportedError: lists every node that cannot be imported; or the model is no classifier.
        ConversionError: the imported graph differs from what onnxruntime computes.
    """
    file = Path(path)
    model, opset = read_model(file)
    notes = [in_real_numbers(model.graph), in_float32(model.graph)]
    said = [choose_output(model.graph, file, output), leave_out_choice(model.graph)]
    prune(model.graph)
    said += [leave_out_inputs(model.graph), pixels_as_floats(model.graph)]
    signature = find_signature(model.graph, file, input_shape, default=default_shape, layout=layout)
    said.append(signature.note)
    for note in filter(None, said):
        logger.warning("%s: %s", file, note)
    found = rebuild(model, opset, signature, file, tuple(filter(None, [*notes, *said])))
    return verify(model, found, signature, file)
