"""The imported graph against onnxruntime, on random images and two batch sizes."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import Tensor, fx

from converter.onnx_import.rebuild import ImportedModel
from converter.onnx_import.rounding import model_without_rounding, module_without_rounding
from converter.onnx_import.signature import Signature
from seenn.capture.head import are_probabilities
from seenn.errors import ConversionError, first_line

logger = logging.getLogger(__name__)

#: Largest difference over largest output that is always accepted, in float32.
TOLERANCE = 1e-5
#: Beyond it, a graph may differ by this many times its own rounding: both programs round, each in an order of its own.
ROUNDINGS = 4
#: No rounding excuses more.
CEILING = 1e-4
#: Of quantised activations, which two programs may round in different directions: nothing is proved beyond it.
COARSE = 0.05
#: Probabilities are compared by their logarithms, which show what saturation hides; less than this is none.
FLOOR = 1e-30
#: Times the difference: where images matter less, agreement says little about them.
_TELLING = 100


def verify(model: onnx.ModelProto, found: ImportedModel, signature: Signature, path: Path) -> ImportedModel:
    """Compares the imported graph with onnxruntime; returns it with the figures, and notes on what they say.

    A graph that takes any batch is run on batches of 1 and of 3, one for batches of N on N images at a time.
    The module is run on all images at once and on one at a time, so that it is independent of the batch.

    With r the graph's own rounding, float32 against float64, the difference may be
    ``max(TOLERANCE, min(ROUNDINGS·r, CEILING))``. Quantised activations are compared without their rounding where that
    makes a difference, which may be ``COARSE`` then. Probabilities are compared by their logarithms.

    Raises:
        ConversionError: onnxruntime cannot run the model, outputs are not finite, or they differ.
    """
    module, notes, baked = found.module, list(found.notes), signature.batch.baked
    count = 3 if baked is None else 2 * baked
    images = torch.randn(count, *signature.shape, generator=torch.Generator().manual_seed(0))
    compared = _compare(model, module, images, signature, path)
    smooth = module_without_rounding(module) if compared.worst > TOLERANCE else None
    if smooth is not None:
        if compared.worst > COARSE:
            raise ConversionError(
                f"{path}: the imported graph differs from onnxruntime by {compared.worst:.1e} of the largest output, "
                f"more than rounding of its activations explains ({COARSE}); please report this model"
            )
        notes.append(
            f"it differs from onnxruntime by {compared.worst:.1e} of the largest output where activations are rounded "
            "the other way"
        )
        module, compared = smooth, _compare(model_without_rounding(model), smooth, images, signature, path)
    worst, spread, together = compared.worst, compared.spread, compared.outputs
    tolerance = TOLERANCE
    if worst > tolerance:
        rounding = _rounding(module, images, together)
        tolerance = max(TOLERANCE, min(ROUNDINGS * rounding, CEILING))
        if not worst <= tolerance:
            raise ConversionError(
                f"{path}: the imported graph differs from onnxruntime by {worst:.1e} of the largest output (allowed: "
                f"{tolerance:.1e}), by rounding in float32 alone by {rounding:.1e}. Where that is far less, report "
                "this model; else float32 is too coarse for it"
            )
        notes.append(
            f"it differs from onnxruntime by {worst:.1e} of the largest output, more than {TOLERANCE:.0e}; by its own "
            f"rounding in float32 it may differ by {tolerance:.1e}"
        )
    if spread <= _TELLING * worst:
        notes.append(
            f"random images give logits that differ by {spread:.0e} of the largest: agreement with onnxruntime says "
            "little"
        )
    for note in notes[len(found.notes) :]:
        logger.warning("%s: %s", path, note)
    return replace(found, notes=tuple(notes), difference=worst, tolerance=tolerance)


@dataclass(frozen=True)
class _Comparison:
    """Differences over the largest output: of the two programs, and of the images among themselves."""

    worst: float
    spread: float
    outputs: Tensor


def _compare(
    model: onnx.ModelProto, module: fx.GraphModule, images: Tensor, signature: Signature, path: Path
) -> _Comparison:
    try:
        with torch.no_grad():
            together, alone = (
                _logits(torch.cat([module(part) for part in torch.split(images, size)])) for size in (len(images), 1)
            )
    except RuntimeError as error:  # torch's, out of memory among them
        raise ConversionError(
            f"{path}: the imported graph cannot be run on random images: {first_line(error)}; export the model again"
        ) from error
    worst = spread = 0.0
    baked = signature.batch.baked
    for expected in _reference(model, images, (1, 3) if baked is None else (baked,), signature, path):
        if expected.shape != together.shape:
            raise ConversionError(
                f"{path}: the imported graph returns {list(together.shape)}, onnxruntime "
                f"{list(expected.shape)}; please report this model"
            )
        if not all(bool(values.isfinite().all()) for values in (expected, together, alone)):
            raise ConversionError(f"{path}: outputs on random images are not finite; load a sound checkpoint")
        scale = float(expected.abs().max()) or 1.0
        spread = float((expected - expected[:1]).abs().max()) / scale
        worst = max(worst, *(float((own - expected).abs().max()) / scale for own in (together, alone)))
    return _Comparison(worst, spread, together)


def _reference(
    model: onnx.ModelProto, images: Tensor, sizes: tuple[int, ...], signature: Signature, path: Path
) -> list[Tensor]:
    """onnxruntime's outputs for all images, computed in batches of each size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs = [
            [
                session.run([signature.logits], {signature.images: signature.as_declared(part).numpy()})[0]
                for part in torch.split(images, size)
            ]
            for size in sizes
        ]
        return [
            _logits(torch.cat([torch.as_tensor(part) for part in parts]).reshape(len(images), -1)) for parts in outputs
        ]
    except Exception as error:  # its errors have no common base
        raise ConversionError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot run the model, so that nothing can be compared: "
            f"{str(error).strip()[:300]}; export it again"
        ) from error


def _logits(outputs: Tensor) -> Tensor:
    """The outputs; of probabilities that a softmax gives, the logarithms."""
    return outputs.clamp_min(FLOOR).log() if are_probabilities(outputs) else outputs


def _rounding(module: fx.GraphModule, images: Tensor, found: Tensor) -> float:
    with torch.no_grad():
        exact = _logits(copy.deepcopy(module).double()(images.double()))
    return float((found - exact).abs().max() / exact.abs().max())
