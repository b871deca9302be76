"""What a model says about its input by itself, so that nobody needs to."""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import nn

from converter.load import LoadedModel, ModelSpec
from converter.load.layout import Layer, find_first_convolution
from converter.load.sources import build_source
from seenn.data import DataSplits, Numbers, Preparation, Stated
from seenn.data.imagenet import IMAGENET
from seenn.models import MODELS

log = logging.getLogger(__name__)

_AXES = {nn.Conv1d: 2, nn.Conv2d: 3, nn.Conv3d: 4}  # of a sample


def completed(module: nn.Module, size: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a sample of this stated ``size``: one side or H,W of images, L of signals, else all of it."""
    first, axes = _first_of(module)
    if first is None or axes is None or not 0 < len(size) < axes:
        return size
    return (first.inputs, *(size if len(size) == axes - 1 else size[:1] * (axes - 1)))


def sample_shapes(source: LoadedModel, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes that a sample may have, likeliest first, where this ``size`` is stated, or none: ``()``.

    A stated size may be all of a sample's where a convolution comes first, too: some models make images of vectors.
    """
    if source.input_shape is not None:
        return (source.input_shape,)
    if size:
        return tuple(dict.fromkeys((completed(source.module, size), size)))
    if source.preprocessing is not None:
        return (source.preprocessing.shape,)
    own = getattr(source.module, "pretrained_cfg", None) or {}
    shape = (source.spec.in_chans or 3, *own.get("input_size", (3, 224, 224))[1:])
    if not own and source.suggestion is None:
        log.warning("nothing says the size of the input: taken is %s; state --input-size", "×".join(map(str, shape)))
    return (shape,)


def fitted(source: LoadedModel, own: Preparation) -> Preparation:
    """The data's own preparation, with the channels and the size that the model is known to take; says what changes.

    An ONNX file says its size, and the library of a model how pictures without a size are prepared. A first convolution
    says its channels, between which only gray and RGB are converted, and how many axes a sample has, of which a single
    channel may be missing.
    """
    if isinstance(own, Numbers):
        first, axes = _first_of(source.module)
        missing = first is not None and first.inputs == 1 and axes == len(own.shape) + 1
        return Stated(input_size=(1, *own.shape)).over(own) if missing else own
    likely = source.suggestion
    if likely is not None and own == IMAGENET:
        return likely
    if likely is not None and (own.mean, own.std) == (IMAGENET.mean, IMAGENET.std):  # pictures of one size
        own = replace(own, mean=likely.mean, std=likely.std)
    size = source.input_shape[1:] if len(source.input_shape or ()) == 3 else None  # type: ignore[index]
    channels = source.spec.in_chans if {source.spec.in_chans, own.channels} == {1, 3} else None
    found = Stated(input_size=size, in_chans=channels).over(own)
    if found.shape != own.shape:
        log.warning(
            "images are made %s for the model, as it is for those; they are %s by themselves",
            "×".join(map(str, found.shape)),
            "×".join(map(str, own.shape)),
        )
    return found


def with_channel(spec: ModelSpec, splits: DataSplits) -> DataSplits:
    """``splits`` for the model of ``spec`` to learn from: a channel that arrays ``[H, W]`` lack is put in front."""
    own = splits.preprocessing
    if not isinstance(own, Numbers):
        return splits
    if spec.name in MODELS:
        axes: int | None = 3
    else:
        _, axes = _first_of(build_source(replace(spec, pretrained=False)))
    if axes != len(own.shape) + 1:
        return splits
    return splits.with_preprocessing(Stated(input_size=(1, *own.shape)).over(own), guess=splits.guess)


def _first_of(module: nn.Module) -> tuple[Layer | None, int | None]:
    """The first convolution, and how many axes a sample has that it takes."""
    first = find_first_convolution(module)
    layer = None if first is None else module.get_submodule(first.name)
    return first, next((axes for kind, axes in _AXES.items() if isinstance(layer, kind)), None)
