"""The largest activation seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from converter.recipes import RECIPES, Recipe
from converter.statistics import SiteStatistics


@RECIPES.register("max")
@dataclass(frozen=True, kw_only=True)
class Max(Recipe):
    """The largest activation seen (Rueckauer et al. 2017): never clips, needs many timesteps."""

    name: ClassVar[str] = "max"
    per_channel: bool = True

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        return statistics.maximum
