"""Building a classifier from its spec, with the weights of a checkpoint in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from converter.load.classes import with_classes
from converter.load.layout import find_first_convolution, find_head
from converter.load.match import load_tensors
from converter.load.names import name_as_in
from converter.load.onnx_source import is_onnx, load_onnx
from converter.load.sources import (
    build_source,
    is_as_published,
    pretrained_preprocessing,
    published_names,
    unstated_arguments,
)
from converter.load.spec import LoadedModel, ModelSpec
from converter.load.stem import stem_for_checkpoint, stem_for_images, use_cifar_stem
from converter.load.weights import Weights, read_weights
from converter.qcfs import with_qcfs
from seenn.data import DataSplits, Preparation
from seenn.data.preprocessing import preparation_from_json
from seenn.errors import CheckpointError, ModelError

logger = logging.getLogger(__name__)

_FITTED_ON = 512  # calibration images, at most


def load_model(
    spec: ModelSpec,
    ckpt: str | Path | None = None,
    *,
    image_size: Sequence[int] | None = None,
) -> LoadedModel:
    """Builds the model that ``spec`` names and puts the weights of ``ckpt`` into it.

    What ``spec`` leaves open is taken from the record that ``train-ann`` wrote into the checkpoint, then
    from the shapes of its weights. Without a checkpoint, the library's pretrained weights are used where
    ``spec.pretrained`` says so, and random ones (with a warning) otherwise.

    Args:
        spec: the architecture.
        ckpt: a weights file or folder, see :func:`converter.load.weights.read_weights`.
        image_size: ``(channels, height, width)`` of the images; decides open fields without a checkpoint, and what
            an ONNX file leaves open.

    Raises:
        ModelError: the model cannot be built, or the checkpoint is of another one.
        CheckpointError: the checkpoint cannot be read or does not fit.
    """
    if is_onnx(spec.name):
        return load_onnx(spec, ckpt, default_size=image_size)
    if ckpt is None:
        loaded = build_model(spec, image_size)
        if spec.pretrained:
            _check_all_trained(loaded)
        else:
            logger.warning("%s has random weights: neither a checkpoint nor pretrained ones", spec.name)
        return loaded
    weights = read_weights(ckpt)
    file = Path(ckpt)
    spec = replace(_with_recorded(spec, weights.record, file), pretrained=False)  # the file's weights go in
    module, spec = _build(_resolve(spec, weights))
    recorded = weights.record.get("preprocessing")  # of train-ann; foreign files have none
    if recorded is None and (more := unstated_arguments(module, spec)):
        listed = ", ".join(f"{key}={value}" for key, value in more.items())
        logger.warning(
            "%s: taken are its library's own weights, which go with %s; are they others, state --model-kwargs",
            file.name,
            listed,
        )
        module, spec = _build(replace(spec, kwargs={**spec.kwargs, **more}))
    suggestion = pretrained_preprocessing(module, spec)
    preprocessing: Preparation | None = suggestion if is_as_published(module, spec) else None
    if recorded is not None:
        preprocessing = preparation_from_json(recorded)
    if spec.levels is not None:
        module = with_qcfs(module, _example(preprocessing, image_size, file), levels=spec.levels)
    notes = load_tensors(module, weights, name=spec.name, ema=spec.ema)
    if recorded is None and not spec.class_names:
        spec = replace(spec, class_names=published_names(module, spec))
    loaded = replace(LoadedModel.of(module, spec, preprocessing), suggestion=suggestion)
    return with_classes(replace(loaded, record={**loaded.record, "weights": list(notes)}) if notes else loaded)


def build_model(spec: ModelSpec, image_size: Sequence[int] | None = None) -> LoadedModel:
    """Builds the model to be trained: random weights, or pretrained ones if ``spec`` says so.

    ``in_chans`` defaults to the images', and ``stem="auto"`` is the CIFAR stem for images of at most 64
    pixels where the model has one to replace. Pretrained weights keep their own stem and channels.

    Raises:
        ModelError: the model cannot be built.
    """
    if is_onnx(spec.name):
        return load_onnx(spec, image_size=image_size)
    if spec.pretrained and spec.stem == "auto":
        spec = replace(spec, stem="imagenet")
    elif image_size is not None and len(image_size) > 1 and spec.in_chans is None and not spec.pretrained:
        spec = replace(spec, in_chans=image_size[0])
    module, spec = _build(spec, image_size)
    preprocessing = pretrained_preprocessing(module, spec) if spec.pretrained else None
    if spec.pretrained and not spec.class_names:
        spec = replace(spec, class_names=published_names(module, spec))
    return with_classes(LoadedModel.of(module, spec, preprocessing))


def model_to_train(
    spec: ModelSpec, splits: DataSplits, ckpt: str | Path | None = None, *, levels: int | None = None
) -> LoadedModel:
    """The model that ``spec`` names, from random weights or those of ``ckpt``, with its activations swapped.

    Args:
        spec: the architecture.
        splits: for the images' shape; and where weights are trained already, thresholds are fitted on the
            first 512 images of the calibration split.
        ckpt: weights to start from.
        levels: of QCFS activations; None leaves the activations that the model or the checkpoint has.

    Raises:
        ModelError: the checkpoint's activations have another number of levels.
        DataError: more classes than the model was told to have.
        UnsupportedError, CheckpointError: see ``load_model`` and ``with_qcfs``.
    """
    size = splits.preprocessing.shape
    loaded = load_model(spec, ckpt, image_size=size) if ckpt is not None else build_model(spec, size)
    if loaded.spec.scores is not None:
        splits.train.check_classes(loaded.spec.scores, spec.name)
    if levels is None or loaded.spec.levels == levels:
        return loaded
    if loaded.spec.levels is not None:
        raise ModelError(
            f"{ckpt} was trained with QCFS activations of {loaded.spec.levels} levels, got {levels}: start from the "
            "weights before that, or keep the levels"
        )
    prepared = splits if loaded.preprocessing is None else splits.with_preprocessing(loaded.preprocessing)
    images = None
    if ckpt is not None or spec.pretrained:
        images = prepared.calibration.batch(limit=_FITTED_ON).inputs
    module = with_qcfs(loaded.module, torch.zeros(2, *size), levels=levels, images=images)
    spec = replace(loaded.spec, levels=levels)
    return replace(loaded, module=module.eval(), spec=spec, record=spec.to_record())


def _build(spec: ModelSpec, image_size: Sequence[int] | None = None) -> tuple[nn.Module, ModelSpec]:
    """The module with its stem, and the spec with the stem filled in."""
    if spec.layout != "auto":
        raise ModelError(f"--layout is of ONNX files, and {spec.name} takes [B, C, H, W]: leave it out")
    module = build_source(spec)
    if spec.stem == "auto":
        spec = replace(spec, stem=stem_for_images(module, image_size))
    if spec.stem == "cifar":
        use_cifar_stem(module, spec.name)
    return module, spec


def _resolve(spec: ModelSpec, weights: Weights) -> ModelSpec:
    """Fills the open fields of ``spec`` from a checkpoint's shapes, through a first draft of the model."""
    if spec.stem != "auto" and spec.num_classes is not None and spec.in_chans is not None:
        return spec
    draft = build_source(spec)
    tensors = name_as_in(draft.state_dict(), weights, ema=spec.ema).tensors
    if spec.stem == "auto":
        spec = replace(spec, stem=stem_for_checkpoint(draft, tensors))
    if spec.stem == "cifar":
        use_cifar_stem(draft, spec.name)
    # A size is only passed on where it differs from the draft's: not every factory takes one.
    head, first = find_head(draft), find_first_convolution(draft)
    if spec.num_classes is None and (sizes := head.sizes_in(tensors)) and sizes[1] != head.outputs:
        spec = replace(spec, num_classes=sizes[1])
    if spec.in_chans is None and first and (sizes := first.sizes_in(tensors)) and sizes[0] != first.inputs:
        spec = replace(spec, in_chans=sizes[0])
    return spec


def _with_recorded(spec: ModelSpec, record: Mapping[str, Any], file: Path) -> ModelSpec:
    """``spec``, its fields at their defaults replaced by what ``train-ann`` recorded in the checkpoint."""
    if "model" not in record:
        return spec
    recorded = ModelSpec.from_record(record["model"])
    if spec.architecture != recorded.architecture:
        raise ModelError(f"{file} was trained as {recorded.name!r}, got {spec.name!r}; pass --model {recorded.name}")
    default = ModelSpec(name=spec.name)
    left_out = [field.name for field in fields(spec) if getattr(spec, field.name) == getattr(default, field.name)]
    return replace(spec, **{name: getattr(recorded, name) for name in left_out if name not in ("name", "ema")})


def _example(preprocessing: Preparation | None, image_size: Sequence[int] | None, file: Path) -> Tensor:
    if preprocessing is not None:
        image_size = preprocessing.shape
    if image_size is None:
        raise CheckpointError(f"{file} does not record the size of its images; pass image_size")
    return torch.zeros(2, *image_size)


def _check_all_trained(loaded: LoadedModel) -> None:
    """Pretrained weights with a new head or a new stem are no classifier yet."""
    config = getattr(loaded.module, "pretrained_cfg", {})
    trained_for = config.get("num_classes", loaded.spec.num_classes)
    if trained_for != loaded.spec.num_classes:
        raise ModelError(
            f"the pretrained {loaded.spec.name!r} knows {trained_for} classes, got num_classes="
            f"{loaded.spec.num_classes}: its head would be random; train it first with train-ann "
            f"--pretrained and pass the result with --ckpt"
        )
    if loaded.spec.stem == "cifar":
        raise ModelError(
            f"the pretrained {loaded.spec.name!r} has no weights for the CIFAR stem; train it first with "
            f"train-ann --pretrained --stem cifar and pass the result with --ckpt"
        )
