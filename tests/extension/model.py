"""An ordinary classifier that calls what only the plugin has an op for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Shifted(nn.Module):
    """Two convolutions with their halves swapped between them."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(16 * 4 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fft.fftshift(self.relu(self.first(x)), (2, 3))
        scores: Tensor = self.head(self.relu(self.second(x)).flatten(1))
        return scores
