"""An ONNX file in, out a torch graph that computes what onnxruntime does."""

from __future__ import annotations

import os
from pathlib import Path

from converter.onnx_import.read import read_model
from converter.onnx_import.rebuild import ImportedModel, rebuild
from converter.onnx_import.signature import find_signature
from converter.onnx_import.verify import verify


def import_onnx(path: str | os.PathLike[str], *, input_shape: tuple[int, int, int] | None = None) -> ImportedModel:
    """Reads a classifier and verifies that the torch graph computes what onnxruntime does.

    A softmax at the very end is left out, and noted: the network returns logits. A batch size that is baked
    into the file is made free.

    Args:
        path: a ``.onnx`` file; external data lies beside it.
        input_shape: C, H, W, needed only where the file leaves them open.

    Raises:
        CheckpointError: the file is missing, damaged, hostile or too large.
        UnsupportedError: lists every node that cannot be imported; or the model is no image classifier.
        ConversionError: the imported graph differs from what onnxruntime computes.
    """
    file = Path(path)
    model, opset = read_model(file)
    signature = find_signature(model.graph, file, input_shape)
    return verify(model, rebuild(model, opset, signature, file), signature, file)
