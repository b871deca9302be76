"""An ONNX file in, out a torch graph that computes what onnxruntime does."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from torch import fx

from converter.onnx_import.read import read_model
from converter.onnx_import.rebuild import rebuild
from converter.onnx_import.signature import find_signature
from converter.onnx_import.verify import TOLERANCE, verify

logger = logging.getLogger(__name__)

_TELLING = 100  # times the difference: where images matter less, agreement says little about them


@dataclass(frozen=True, kw_only=True)
class ImportedModel:
    """A classifier as a torch graph, and where it comes from."""

    module: fx.GraphModule  # [B, C, H, W] -> logits [B, K], in eval mode, for any B
    input_shape: tuple[int, int, int]  # C, H, W
    classes: int  # K
    opset: int
    ir_version: int
    notes: tuple[str, ...]  # what was changed on purpose
    difference: float  # largest, from onnxruntime, relative to the largest output
    tolerance: float  # that it was held to: 1e-5, or a few times the graph's own rounding in float32


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
    found = rebuild(model, opset, signature, file)
    compared = verify(model, found.module, signature, file)
    notes = list(found.notes)
    if compared.tolerance > TOLERANCE:
        notes.append(
            f"it differs from onnxruntime by {compared.difference:.1e} of the largest output, more than "
            f"{TOLERANCE:.0e}; by its own rounding in float32 it may differ by {compared.tolerance:.1e}"
        )
        logger.warning("%s: %s", file, notes[-1])
    if compared.spread <= _TELLING * compared.difference:
        notes.append(
            f"random images give logits that differ by {compared.spread:.0e} of the largest: agreement with "
            "onnxruntime says little"
        )
        logger.warning("%s: %s", file, notes[-1])
    return ImportedModel(
        module=found.module,
        input_shape=signature.shape,
        classes=found.classes,
        opset=opset,
        ir_version=model.ir_version,
        notes=tuple(notes),
        difference=compared.difference,
        tolerance=compared.tolerance,
    )
