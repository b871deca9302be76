"""A percentile of the activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from converter.recipes import RECIPES, Recipe
from converter.statistics import BINS, SiteStatistics


@RECIPES.register("percentile")
@dataclass(frozen=True, kw_only=True)
class Percentile(Recipe):
    """The ``q``-th percentile of the activations (Rueckauer et al. 2017), to 1/2048 of the maximum."""

    name: ClassVar[str] = "percentile"
    q: float = 99.9  # in (0, 100]

    def __post_init__(self) -> None:
        if not 0.0 < self.q <= 100.0:
            raise ValueError(f"q is a percentage in (0, 100], got {self.q}")

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        share = statistics.counts.cumsum(1).double() / statistics.counts.sum(1, keepdim=True)
        index = (share < self.q / 100.0).sum(1).clamp(1, BINS)
        return statistics.maximum * index / BINS
