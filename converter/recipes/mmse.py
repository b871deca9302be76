"""The range of least squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from converter.recipes import RECIPES, Recipe
from converter.statistics import BINS, SiteStatistics


@RECIPES.register("mmse")
@dataclass(frozen=True, kw_only=True)
class MMSE(Recipe):
    """The range with the least squared rounding-and-clipping error (Li et al. 2021), over a grid.

    Minimises ``E‖x − clip(⌊x·s/r + ½⌋, 0, s)·r/s‖²`` with s = T·Γ levels over r = max·(1 − i/100),
    i = 0 … ``grid`` − 1.
    """

    name: ClassVar[str] = "mmse"
    grid: int = 95  # candidates, 1 to 100

    def __post_init__(self) -> None:
        if not 1 <= self.grid <= 100:
            raise ValueError(f"grid must be 1 to 100 candidates, got {self.grid}")

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        value = torch.arange(BINS, dtype=torch.float64) / BINS
        counts = statistics.counts.double()
        candidates = 1.0 - torch.arange(self.grid, dtype=torch.float64) / 100.0
        step = (candidates / steps).view(-1, 1)
        rounded = torch.floor(value / step + 0.5).clamp(0, steps) * step
        error = counts @ (value - rounded).square().T  # [C, grid]
        return statistics.maximum * candidates[error.argmin(1)].to(statistics.maximum.dtype)
