"""Small networks with weights that keep every layer alive, and images for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


def _enliven(model: nn.Module) -> nn.Module:
    """Random weights of unit gain, and batch norms whose running statistics are not the identity."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def enliven() -> Callable[[nn.Module], nn.Module]:
    """Gives a model weights with which every layer says something."""
    return _enliven


@pytest.fixture
def net() -> nn.Module:
    """conv, BN, ReLU, max-pool, conv, BN, ReLU, linear: two sites."""
    return _enliven(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 5),
        )
    )


@pytest.fixture(scope="session")
def images() -> Tensor:
    """48 images ``[3, 8, 8]``."""
    return torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(1))
