"""A spiking network approaches its ANN as T grows; models of timm and torchvision keep their function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter import ConvertConfig, Max, check, convert_module
from converter.load import ModelSpec, build_model
from seenn.batch import Batch
from seenn.core.ops import CumulativeDifference


def alive(model: nn.Module, images: Tensor) -> nn.Module:
    """Random weights, scaled layer by layer so that signals neither fade nor explode."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = None  # running statistics become those of the images
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(images)
    return model.eval()


@pytest.fixture(scope="module")
def small() -> tuple[nn.Module, Tensor]:
    images = torch.randn(32, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 10),
    )
    return alive(model, images), images


@pytest.mark.parametrize("neuron", ["if", "signed"])
def test_error_falls_as_one_over_t(neuron: str, small: tuple[nn.Module, Tensor]) -> None:
    model, images = small
    expected = model(images).detach()
    network = convert_module(
        model, images, ConvertConfig(recipe=Max(), neuron=neuron, levels=1, correction="none")
    ).network
    with torch.no_grad():
        errors = [float((network(images, t) - expected).norm() / expected.norm()) for t in (8, 32, 128)]
    # four times the steps: a quarter of the error, give or take
    assert errors[1] < 0.45 * errors[0], errors
    assert errors[2] < 0.45 * errors[1], errors
    assert errors[2] < 0.03, errors


@pytest.mark.parametrize(
    ("name", "kwargs", "sites", "pools"),
    [
        ("resnet18", {}, 17, 1),
        ("torchvision:mobilenet_v2", {"width_mult": 0.35}, 52, 0),
        ("torchvision:squeezenet1_0", {}, 28, 3),
        ("densenet121", {"block_config": (2, 2, 2, 2)}, 21, 1),
    ],
)
def test_models_from_the_wild(name: str, kwargs: dict[str, Any], sites: int, pools: int) -> None:
    timesteps = 16 if sites == 52 else 4  # encoders of random weights need more of them
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = alive(build_model(ModelSpec(name=name, kwargs=kwargs, num_classes=10, stem="imagenet")).module, images)
    found = convert_module(model, images, ConvertConfig(timesteps=timesteps))
    assert len(found.network.sites) == sites  # activations, and encoders of what is multiplied without one
    assert found.float64_difference < 1e-12
    assert sum(isinstance(node.op, CumulativeDifference) for node in found.network.graph) == pools
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(found.network.analog()(images), expected, rtol=1e-3, atol=1e-3)
    report = check(found.network, [Batch(images, expected.argmax(-1))], timesteps)
    assert report.ann_accuracy == 1.0
    assert report.diverged is None
