"""Classifiers by torchvision name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from torch import nn

from converter.load.layout import find_first_convolution
from converter.load.spec import TORCHVISION, ModelSpec
from converter.load.timm_source import building
from seenn.data import Preprocessing
from seenn.errors import ModelError

_AUXILIARY = ("aux1", "aux2", "AuxLogits")
_INIT_ANNOUNCED = ("googlenet", "inception_v3")  # they warn unless told to initialise as they always did
_NORMALISES_AGAIN = ("googlenet", "inception_v3")  # weights of a library that normalised in another way


@cache
def torchvision_names() -> frozenset[str]:
    """Every classifier that torchvision can build."""
    from torchvision import models

    return frozenset(models.list_models(module=models))


def is_torchvision_name(name: str) -> bool:
    """Whether torchvision has a model of this name, of whatever kind."""
    from torchvision import models

    return name in models.list_models()


def build_torchvision(spec: ModelSpec) -> nn.Module:
    """``torchvision.models.get_model`` with the fields of ``spec``; training-only auxiliary heads go.

    Raises:
        ModelError: the model refuses its arguments, or its weights cannot be had or are for other images.
    """
    from torchvision.models import get_model

    name = spec.name.removeprefix(TORCHVISION)
    if spec.pretrained and spec.in_chans not in (None, 3):
        raise ModelError(
            f"the pretrained {spec.name!r} takes images of 3 channels, got in_chans={spec.in_chans}; "
            f"leave --in-chans out, or train without --pretrained"
        )
    options: dict[str, Any] = dict(spec.kwargs)
    if spec.num_classes is not None:
        options["num_classes"] = spec.num_classes
    if name in _INIT_ANNOUNCED and not spec.pretrained:
        options.setdefault("init_weights", True)
    with building(spec):
        module = cast(nn.Module, get_model(name, weights="DEFAULT" if spec.pretrained else None, **options))
    _drop_auxiliary_heads(module)
    if spec.in_chans is not None:
        _set_input_channels(module, spec.in_chans)
    return module


def _drop_auxiliary_heads(module: Any) -> None:
    if getattr(module, "aux_logits", False):
        module.aux_logits = False
        for name in _AUXILIARY:
            if hasattr(module, name):
                setattr(module, name, None)


def _set_input_channels(module: nn.Module, channels: int) -> None:
    """torchvision's factories build for three channels only, so the first convolution is built again."""
    first = find_first_convolution(module)
    if first is None or first.inputs == channels:
        return
    old = module.get_submodule(first.name)
    assert isinstance(old, nn.Conv2d)
    kept = {"stride": old.stride, "padding": old.padding, "bias": old.bias is not None}
    conv = nn.Conv2d(channels, first.outputs, old.kernel_size, **kept)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    module.set_submodule(first.name, conv)


def published_arguments(name: str) -> Mapping[str, Any]:
    """What a model's builder is given with the default weights, and weights do not show."""
    return {"transform_input": True} if name in _NORMALISES_AGAIN else {}


def torchvision_preprocessing(name: str) -> Preprocessing:
    """What the default weights of a model expect."""
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
