"""How the images of a pretrained model were prepared, as its library records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from converter.load.spec import ModelSpec
from converter.load.torchvision_source import TORCHVISION
from seenn.data import Preprocessing


def pretrained_preprocessing(module: nn.Module, spec: ModelSpec) -> Preprocessing | None:
    """What ``spec``'s pretrained weights expect; None where that is not known or other channels go in."""
    found: Preprocessing | None = None
    if spec.name.startswith(TORCHVISION):
        found = _torchvision(spec.name.removeprefix(TORCHVISION))
    elif hasattr(module, "pretrained_cfg"):
        found = _timm(module)
    return found if found is not None and spec.in_chans in (None, found.channels) else None


def recorded_preprocessing(record: Mapping[str, Any]) -> Preprocessing | None:
    """What ``train-ann`` recorded beside the weights; None in foreign files.

    Raises:
        CheckpointError: the record cannot be read.
    """
    return Preprocessing.from_json(record["preprocessing"]) if "preprocessing" in record else None


def _timm(module: nn.Module) -> Preprocessing | None:
    from timm.data.config import resolve_model_data_config

    config = resolve_model_data_config(module)
    if config["crop_mode"] != "center":
        return None
    channels, height, width = config["input_size"]
    return Preprocessing(
        channels=channels,
        height=height,
        width=width,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop=config["crop_pct"],
    )


def _torchvision(name: str) -> Preprocessing:
    from torchvision.models import get_model_weights

    transforms = get_model_weights(name).DEFAULT.transforms()
    (height,), (resized,) = transforms.crop_size, transforms.resize_size
    return Preprocessing(
        channels=len(transforms.mean),
        height=height,
        width=height,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        crop=height / resized,
    )
