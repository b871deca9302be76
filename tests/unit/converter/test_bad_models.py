"""Modules that no conversion can be right about: one clear error each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.transforms import v2

from converter import convert, convert_module
from seenn.errors import ConversionError, ModelError, UnsupportedError


class Branching(nn.Module):
    """Looks at the values before it decides."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if bool(x.mean() > 0) else self.body(-x)


def test_control_flow_that_depends_on_the_data_is_refused(images: Tensor) -> None:
    with pytest.raises(UnsupportedError, match=r"Branching cannot be traced .* must not branch on the values in it"):
        convert_module(Branching(), images)


@pytest.mark.parametrize("part", [v2.Resize(8), models.ResNet18_Weights.DEFAULT.transforms(crop_size=8)])
def test_what_prepares_images_inside_a_model_is_part_of_it(part: nn.Module) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(part, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    images = torch.rand(20, 3, 16, 16)
    network = convert_module(model, images).network
    with torch.no_grad():
        assert torch.allclose(network.analog()(images), model(images), atol=1e-4)


def test_a_device_that_is_not_there_is_refused(net: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match="unknown device 'gpu': use cpu, cuda, mps or auto"):
        convert(net, images, device="gpu")


def test_a_converted_network_and_what_holds_one_are_refused(net: nn.Module, images: Tensor) -> None:
    network = convert_module(net, images).network
    for model in (network, nn.Sequential(network)):
        with pytest.raises(ModelError, match="the model already holds neurons: it needs no conversion"):
            convert_module(model, images)


def test_randomness_in_the_forward_pass_is_refused(images: Tensor) -> None:
    class Noisy(Branching):
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x + torch.rand(3, 8, 8, dtype=x.dtype))

    with pytest.raises((UnsupportedError, ConversionError)):
        convert_module(Noisy(), images)


def test_what_is_no_classifier_is_refused(images: Tensor) -> None:
    with pytest.raises(ConversionError, match=r"returns \[B, 4, 6, 6\]: return one score per class, \[B, K\]"):
        convert_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)), images)


def test_two_inputs_are_refused(images: Tensor) -> None:
    class Two(Branching):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.body(x + y)

    with pytest.raises(
        UnsupportedError, match=r"Two takes several inputs \(x, y\): wrap it in a module whose forward takes the images"
    ):
        convert_module(Two(), images)


def test_a_view_that_holds_one_image_only_is_named(images: Tensor) -> None:
    class View(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(x)).view(1, -1))  # type: ignore[no-any-return]

    with pytest.raises(
        UnsupportedError, match=r"View takes one image at a time, and fails on 2 .*: keep the batch axis"
    ):
        convert_module(View(), images)
