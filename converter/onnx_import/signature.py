"""One batch of images in, one tensor out: which names, which shape, and which axis is the batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from converter.onnx_import.limits import MAX_BATCH, MAX_VALUES
from converter.onnx_import.values import BatchSizes
from seenn.errors import UnsupportedError


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What goes into a classifier and what comes out."""

    images: str
    logits: str
    shape: tuple[int, int, int]  # C, H, W
    batch: BatchSizes


def find_signature(graph: onnx.GraphProto, path: Path, shape: tuple[int, int, int] | None = None) -> Signature:
    """Axis 0 of the one input that is not a weight is the batch: fixed, or any.

    Args:
        shape: C, H, W of the images, where the file leaves them open.

    Raises:
        UnsupportedError: several inputs or outputs, no images, open sizes, or sizes that contradict ``shape``.
    """
    weights = {tensor.name for tensor in graph.initializer}  # old IR versions list them as inputs as well
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise UnsupportedError(
            f"{path}: inputs {[value.name for value in inputs]}, outputs {[value.name for value in graph.output]}; "
            "expected one batch of images in and one tensor of logits out; cut the rest with onnx.utils.extract_model"
        )
    (images,), (logits,) = inputs, graph.output
    where = f"{path}: input {images.name!r}"
    kind = images.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(
            f"{where} is a {(kind or 'value without a type').removesuffix('_type')}; expected images"
        )
    tensor = images.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        raise UnsupportedError(f"{where} does not hold float32 (element type {tensor.elem_type}); export it in float32")
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if len(sizes) != 4:
        raise UnsupportedError(f"{where} has {len(sizes)} axes; expected images [B, C, H, W]")
    baked, *declared = sizes
    if baked is not None and not 0 < baked <= MAX_BATCH:
        raise UnsupportedError(f"{where} is for batches of {baked} images; expected 1 to {MAX_BATCH}")
    return Signature(
        images=images.name, logits=logits.name, shape=_shape(declared, shape, where), batch=BatchSizes(baked)
    )


def _shape(declared: list[int | None], given: tuple[int, int, int] | None, where: str) -> tuple[int, int, int]:
    shown = ", ".join("?" if size is None else str(size) for size in declared)
    sizes = [own if own is not None else (given[i] if given else None) for i, own in enumerate(declared)]
    channels, height, width = sizes
    if channels is None or height is None or width is None:
        raise UnsupportedError(
            f"{where} leaves channels, height or width open ({shown}); pass input_shape, or export it for one size"
        )
    if given is not None and (channels, height, width) != given:
        raise UnsupportedError(f"{where} is for images of shape ({shown}), got input_shape={given}")
    if min(channels, height, width) < 1 or channels * height * width > MAX_VALUES:
        raise UnsupportedError(f"{where} is for images of shape ({shown}); expected at most {MAX_VALUES:,} values")
    return channels, height, width
