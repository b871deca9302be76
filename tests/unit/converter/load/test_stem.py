"""The CIFAR stem: where it goes, and how it is recognised."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from converter.load import ModelSpec, build_model
from seenn.errors import ModelError

SMALL, LARGE = (1, 28, 28), (1, 96, 96)
NARROW = {"channels": (8, 8, 8, 8), "layers": (1, 1, 1, 1)}


@pytest.mark.parametrize(
    ("name", "kwargs", "conv", "pool"),
    [
        ("resnet18", {**NARROW, "stem_width": 8}, "conv1", "maxpool"),
        ("resnet18d", NARROW, "conv1", "maxpool"),
        ("resnetv2_18", NARROW, "stem.conv", "stem.pool"),
        ("torchvision:resnet18", {}, "conv1", "maxpool"),
        ("torchvision:densenet121", {}, "features.conv0", "features.pool0"),
        ("legacy_seresnet18", {}, "layer0.conv1", "pool0"),
    ],
)
def test_cifar_stem_keeps_channels_and_size(name: str, kwargs: dict[str, object], conv: str, pool: str) -> None:
    plain, small = (
        build_model(ModelSpec(name=name, kwargs=kwargs, num_classes=3, stem=stem), SMALL).module
        for stem in ("imagenet", "cifar")
    )
    ours, theirs = small.get_submodule(conv), plain.get_submodule(conv)
    assert isinstance(ours, nn.Conv2d)
    last = theirs[-1] if isinstance(theirs, nn.Sequential) else theirs
    assert (ours.in_channels, ours.out_channels) == (1, last.out_channels)
    assert (ours.kernel_size, ours.stride, ours.padding, ours.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert isinstance(small.get_submodule(pool), nn.Identity)
    assert small(torch.zeros(2, 1, 16, 16)).shape == (2, 3)


def test_auto_is_the_cifar_stem_for_small_images_only() -> None:
    spec = ModelSpec(name="resnet18", kwargs={**NARROW, "stem_width": 8})
    assert build_model(spec, SMALL).spec.stem == "cifar"
    assert build_model(spec, LARGE).spec.stem == "imagenet"
    assert build_model(spec).spec.stem == "imagenet"


def test_auto_leaves_models_without_such_a_stem_alone() -> None:
    assert build_model(ModelSpec(name="test_efficientnet"), SMALL).spec.stem == "imagenet"


def test_asking_for_a_cifar_stem_that_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no ImageNet stem to replace.*looked for.*conv1 with maxpool"):
        build_model(ModelSpec(name="test_efficientnet", stem="cifar"), SMALL)
