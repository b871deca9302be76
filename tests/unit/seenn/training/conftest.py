"""Small classifiers on the digits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from seenn.core.ops import QCFS
from seenn.data import DataSplits, load_data

MakeModule = Callable[[], nn.Module]


@pytest.fixture(scope="session")
def digits() -> DataSplits:
    return load_data("digits")


@pytest.fixture
def classifier() -> MakeModule:
    """Convolution, normalisation, a QCFS activation, dropout, head: everything that has a state or draws."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            QCFS(torch.full((8,), 4.0)),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(8 * 36, 10),
        )

    return make
