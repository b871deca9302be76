"""The largest activation seen."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from converter.recipes import RECIPES, Recipe
from converter.statistics import SiteStatistics


@RECIPES.register("max")
class Max(Recipe):
    """The largest activation seen (Rueckauer et al. 2017): never clips, needs many timesteps."""

    name: ClassVar[str] = "max"

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        return statistics.maximum
