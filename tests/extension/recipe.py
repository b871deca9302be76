"""A recipe: ``--recipe deviation``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from converter import RECIPES, Recipe, SiteStatistics


@RECIPES.register("deviation")
@dataclass(frozen=True, kw_only=True)
class Deviation(Recipe):
    """The root mean square of the activations, ``deviations`` times, and never more than the largest."""

    name: ClassVar[str] = "deviation"
    per_channel: bool = True
    deviations: float = 3.0  # above 0

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        counts = statistics.counts.double()
        value = torch.arange(counts.shape[1], dtype=torch.float64) / counts.shape[1]
        square = (counts * value.square()).sum(1) / counts.sum(1)
        return statistics.maximum * (self.deviations * square.sqrt()).clamp(max=1).to(statistics.maximum.dtype)
