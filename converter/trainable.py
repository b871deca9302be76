"""The module that a training starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from converter.load import LoadedModel, ModelSpec, build_model, load_model
from converter.pipeline import DEFAULT_CALIBRATION_IMAGES
from converter.qcfs import with_qcfs
from seenn.data import DataSplits
from seenn.errors import ModelError


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
        UnsupportedError, CheckpointError: see ``load_model`` and ``with_qcfs``.
    """
    p = splits.preprocessing
    size = (p.channels, p.height, p.width)
    loaded = load_model(spec, ckpt, image_size=size) if ckpt is not None else build_model(spec, size)
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
        images = prepared.calibration.images(limit=DEFAULT_CALIBRATION_IMAGES)
    module = with_qcfs(loaded.module, torch.zeros(2, *size), levels=levels, images=images)
    return LoadedModel.of(module, replace(loaded.spec, levels=levels), loaded.preprocessing)
