from __future__ import annotations

import pytest
import torch
from torch import nn

import seenn
from seenn.core.ops import LIFNeuron
from seenn.errors import ModelError
from seenn.models import build_spiking_model


def _convolutions(name: str, width: float = 0.125) -> list[tuple[int, int, int]]:
    module = build_spiking_model(name, LIFNeuron, in_chans=3, num_classes=10, image_size=(32, 32), width=width)
    return [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_resnet19_has_three_stages_of_three_three_and_two_blocks() -> None:
    found = _convolutions("spiking_resnet19")
    main = [c for c in found if c[1] == 3]
    assert [c[0] for c in main] == [16] * 7 + [32] * 6 + [64] * 4
    assert [c[2] for c in main].count(2) == 2
    assert [c for c in found if c[1] == 1] == [(32, 1, 1), (64, 1, 1)]  # behind average pools
    assert len(main) + 1 + 1 == 19  # the literature counts a second linear layer


def test_vggs_have_the_published_channels() -> None:
    assert [c[0] for c in _convolutions("spiking_vgg16")] == [8, 8, 16, 16, 32, 32, 32] + [64] * 6
    assert [c[0] for c in _convolutions("spiking_vgg_events")] == [8, 16, 32, 32, 64, 64, 64, 64]


def test_a_width_scales_every_channel() -> None:
    assert [c[0] for c in _convolutions("spiking_small", 0.5)] == [16, 32, 64]


@pytest.mark.parametrize("size", [(28, 28), (33, 17)])
def test_images_need_not_be_square_or_even(size: tuple[int, int]) -> None:
    for name in ("spiking_resnet19", "spiking_vgg16", "spiking_vgg_events"):
        module = build_spiking_model(name, LIFNeuron, in_chans=2, num_classes=5, image_size=size, width=0.0625)
        network = seenn.capture(module.eval(), torch.zeros(2, 2, *size))
        assert network(torch.zeros(3, 2, *size), 2).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "spiking_resnet91",
            (32, 32),
            r"there is no spiking model 'spiking_resnet91'. Did you mean 'spiking_resnet19'",
        ),
        ("spiking_vgg16", (8, 8), r"a spiking VGG needs images of at least 16×16 pixels, got 8×8: take spiking_small"),
        ("spiking_vgg_events", (8, 15), r"spiking_vgg_events needs images of at least 16×16 pixels, got 8×15"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_spiking_model(name, LIFNeuron, in_chans=1, num_classes=10, image_size=size)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_width_is_positive(width: float) -> None:
    with pytest.raises(ValueError, match="width must be positive and finite, got"):
        build_spiking_model("spiking_small", LIFNeuron, in_chans=1, num_classes=2, image_size=(8, 8), width=width)
