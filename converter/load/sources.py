"""Which library a model name belongs to, and the names nearest to an unknown one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from converter.load.classes import LISTS, listed_names
from converter.load.foreign import no_model_at
from converter.load.layout import find_head
from converter.load.onnx_source import is_onnx
from converter.load.python_path import build_python_path, find_factory
from converter.load.spec import HUB_PREFIXES, TORCHVISION, ModelSpec
from converter.load.timm_source import build_timm, is_timm_name, timm_names, timm_preprocessing
from converter.load.torchvision_source import (
    build_torchvision,
    is_torchvision_name,
    published_arguments,
    torchvision_names,
    torchvision_preprocessing,
)
from seenn.data import Preprocessing
from seenn.errors import CheckpointError, ModelArgumentError, did_you_mean


def build_source(spec: ModelSpec) -> nn.Module:
    """The module that ``spec`` names, as its library builds it: no stem is replaced, no checkpoint read.

    Raises:
        ModelError: the name is unknown, the factory refuses its arguments or returns something else, or
            pretrained weights cannot be had.
    """
    return _builder(spec.name)(spec)


def check_name(name: str, *, also: Iterable[str] = ()) -> None:
    """Refuses what cannot be a model, before anything is loaded or built; ``also`` are names that are one.

    Raises:
        ModelArgumentError: the name is unknown; of a Python path, it cannot be imported.
        CheckpointError: there is no such ONNX file.
    """
    also = tuple(also)
    if is_onnx(name) and not Path(name).is_file():
        raise CheckpointError(no_model_at(Path(name)) or f"{name}: no such file; check the path")
    if is_onnx(name) or name in also:
        return
    if _builder(name, also) is build_python_path:
        find_factory(name)


def _builder(name: str, also: tuple[str, ...] = ()) -> Callable[[ModelSpec], nn.Module]:
    """What builds the model of this name."""
    if name.startswith(HUB_PREFIXES):
        return build_timm
    if name.startswith(TORCHVISION):
        if name.removeprefix(TORCHVISION) not in torchvision_names():
            raise _unknown(name, also)
        return build_torchvision
    if ":" in name:
        return build_python_path
    if not is_timm_name(name):
        raise _unknown(name, also)
    return build_timm


def pretrained_preprocessing(module: nn.Module, spec: ModelSpec) -> Preprocessing | None:
    """What ``spec``'s pretrained weights expect; None where that is not known or other channels go in."""
    found: Preprocessing | None = None
    if spec.name.startswith(TORCHVISION):
        found = torchvision_preprocessing(spec.name.removeprefix(TORCHVISION))
    elif hasattr(module, "pretrained_cfg"):
        found = timm_preprocessing(module)
    return found if found is not None and spec.in_chans in (None, found.channels) else None


def is_as_published(module: nn.Module, spec: ModelSpec) -> bool:
    """Whether weights of this shape are most likely the library's own: by its folder, or its classes and stem."""
    if spec.name.startswith(HUB_PREFIXES):
        return True
    classes = (
        1000
        if spec.name.startswith(TORCHVISION)
        else (getattr(module, "pretrained_cfg", None) or {}).get("num_classes")
    )
    return spec.stem == "imagenet" and find_head(module).outputs == classes


def unstated_arguments(module: nn.Module, spec: ModelSpec) -> Mapping[str, Any]:
    """What a library gives its model with its own weights, and neither their file nor ``spec`` says."""
    if not spec.name.startswith(TORCHVISION) or not is_as_published(module, spec):
        return {}
    published = published_arguments(spec.name.removeprefix(TORCHVISION))
    return {key: value for key, value in published.items() if key not in spec.kwargs}


def published_names(module: nn.Module, spec: ModelSpec) -> tuple[str, ...]:
    """What a library's own weights call their classes; () where that is not known."""
    if not is_as_published(module, spec):
        return ()
    config: Mapping[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    if names := config.get("label_names"):  # of a model on a hub
        found = tuple(names)
    elif spec.name.startswith(TORCHVISION):
        found = listed_names("imagenet-1k")
    else:
        from timm.data import infer_imagenet_subset

        known = infer_imagenet_subset(dict(config))
        found = listed_names(known) if known in LISTS else ()
    return found if len(found) == find_head(module).outputs else ()


def _unknown(name: str, also: tuple[str, ...]) -> ModelArgumentError:
    if said := no_model_at(Path(name)):
        return ModelArgumentError(said)
    if name.startswith(TORCHVISION) and is_torchvision_name(name.removeprefix(TORCHVISION)):
        return ModelArgumentError(
            f"{name} is no image classifier, its answers are boxes, masks or of videos: take a classifier, or a module "
            "of your own that returns scores, package.module:factory"
        )
    known = [*also, *timm_names(), *(f"{TORCHVISION}{model}" for model in torchvision_names())]
    return ModelArgumentError(
        f"unknown model {name!r}.{did_you_mean(name, known)} Name one of timm's (timm.list_models()), "
        f"torchvision:NAME, hf-hub:USER/MODEL, local-dir:PATH or package.module:factory"
        f"{', or one of ' * bool(also)}{', '.join(also)}"
    )
