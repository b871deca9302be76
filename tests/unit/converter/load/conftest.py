"""Small checkpoints and models for the tests of loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter.load import LoadedModel, ModelSpec, build_model
from converter.load.weights import write_weights

WIDTHS = {"channels": (8, 8, 8, 8), "stem_width": 8, "layers": (1, 1, 1, 1)}


@pytest.fixture(scope="session")
def trained() -> LoadedModel:
    """A narrow timm ResNet with the CIFAR stem for 1×28×28 images and seven classes."""
    torch.manual_seed(0)
    return build_model(ModelSpec(name="resnet18", kwargs=WIDTHS, num_classes=7), (1, 28, 28))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a module's or a mapping's tensors, with a record where one is given."""

    def write(source: nn.Module | dict[str, Tensor], record: dict[str, Any] | None = None) -> Path:
        tensors = source.state_dict() if isinstance(source, nn.Module) else source
        path = tmp_path / "weights.pth"
        write_weights(path, tensors, record or {})
        return path

    return write
