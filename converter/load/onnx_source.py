"""Classifiers in ONNX files, which hold their own weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from converter.load.classes import with_classes
from converter.load.spec import LoadedModel, ModelSpec
from seenn.errors import ModelError

SUFFIX = ".onnx"
_VERSION = 0x08  # in protobuf: field 1, a number
_MOST_VERSIONS = 32
_FIELDS = (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)  # the producer, domain, its version, a text, the graph, the opset


def is_onnx(name: str) -> bool:
    """Whether a model name is an ONNX file, be it by its content."""
    path = Path(name)
    return name.lower().endswith(SUFFIX) or (bool(name) and path.is_file() and _begins_as_onnx(path))


def _begins_as_onnx(path: Path) -> bool:
    """Whether a file begins with a version of ONNX and another field, as what its library writes."""
    with path.open("rb") as file:
        start = file.read(3)
    return len(start) == 3 and start[0] == _VERSION and start[1] <= _MOST_VERSIONS and start[2] in _FIELDS


def load_onnx(
    spec: ModelSpec,
    ckpt: str | Path | None = None,
    image_size: Sequence[int] | None = None,
    *,
    default_size: Sequence[int] | None = None,
) -> LoadedModel:
    """Imports the file that ``spec`` names; its record says what the import changed.

    Args:
        spec: of the file; also which output is meant, and where the channels are.
        ckpt: refused, the file holds its own weights.
        image_size: of one sample, channels first; must agree with the file.
        default_size: likewise, only for what the file leaves open.

    Raises:
        ModelError: the spec asks for other weights, sizes or layers than the file's.
        CheckpointError: the file is missing, damaged or hostile.
        UnsupportedError: lists every node that cannot be imported.
        ConversionError: the import differs from onnxruntime.
    """
    from converter.onnx_import import import_onnx

    given = {"--ckpt": ckpt, "--use-ema": spec.ema, "--model-kwargs": spec.kwargs, "--stem cifar": spec.stem == "cifar"}
    if extra := [option for option, value in {**given, "--pretrained": spec.pretrained}.items() if value]:
        raise ModelError(f"{spec.name} holds its own layers and weights: leave out {', '.join(extra)}")
    imported = import_onnx(
        spec.name, input_shape=image_size, default_shape=default_size, layout=spec.layout, output=spec.output
    )
    channels = imported.input_shape[0] if len(imported.input_shape) > 1 else None
    found = {"num_classes": imported.classes, "in_chans": channels}
    for key, size in found.items():
        if getattr(spec, key) not in (None, size):
            raise ModelError(f"{spec.name} has {key}={size}, expected {getattr(spec, key)}; leave that option out")
    # As timm's models say which images they take.
    imported.module.pretrained_cfg = {"input_size": imported.input_shape}  # type: ignore[assignment]
    spec = replace(spec, stem="imagenet", num_classes=imported.classes, in_chans=channels)
    origin = {key: getattr(imported, key) for key in ("opset", "ir_version", "difference", "tolerance")}
    origin["notes"] = list(imported.notes)
    record = {**spec.to_record(), "onnx": origin}
    return with_classes(LoadedModel(imported.module, spec, None, record, input_shape=imported.input_shape))
