"""Classifiers in ONNX files, which hold their own weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from converter.load.spec import LoadedModel, ModelSpec
from seenn.errors import ModelError

SUFFIX = ".onnx"


def is_onnx(name: str) -> bool:
    """Whether a model name is an ONNX file."""
    return name.endswith(SUFFIX)


def _of_images(size: tuple[int, ...]) -> tuple[int, int, int]:
    if len(size) != 3:
        raise ModelError(f"an ONNX file is imported for images [C, H, W], got samples {list(size)}")
    return size[0], size[1], size[2]


def load_onnx(
    spec: ModelSpec, ckpt: str | Path | None = None, image_size: tuple[int, ...] | None = None
) -> LoadedModel:
    """Imports the file that ``spec`` names; its record says what the import changed.

    Args:
        image_size: ``(channels, height, width)``; decides what the file leaves open.

    Raises:
        ModelError: the spec asks for other weights, sizes or layers than the file's.
        CheckpointError: the file is missing, damaged or hostile.
        UnsupportedError: lists every node that cannot be imported.
        ConversionError: the import differs from onnxruntime.
    """
    from converter.onnx_import import import_onnx

    given = {"--ckpt": ckpt, "--model-kwargs": spec.kwargs, "--stem cifar": spec.stem == "cifar"}
    if extra := [option for option, value in {**given, "--pretrained": spec.pretrained}.items() if value]:
        raise ModelError(f"{spec.name} holds its own layers and weights: leave out {', '.join(extra)}")
    imported = import_onnx(spec.name, input_shape=None if image_size is None else _of_images(image_size))
    found = {"num_classes": imported.classes, "in_chans": imported.input_shape[0]}
    for key, size in found.items():
        if getattr(spec, key) not in (None, size):
            raise ModelError(f"{spec.name} has {key}={size}, expected {getattr(spec, key)}; leave that option out")
    # As timm's models say which images they take.
    imported.module.pretrained_cfg = {"input_size": imported.input_shape}  # type: ignore[assignment]
    spec = replace(spec, stem="imagenet", num_classes=imported.classes, in_chans=imported.input_shape[0])
    origin = {key: getattr(imported, key) for key in ("opset", "ir_version", "difference", "tolerance")}
    origin["notes"] = list(imported.notes)
    return LoadedModel(imported.module, spec, None, {**spec.to_record(), "onnx": origin})
