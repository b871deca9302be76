"""Recipes by name, one file each: how the range of a site's activations is chosen, and with it the threshold.

A neuron that fires at most Γ spikes of size θ per step represents [0, Γ·θ], in T·Γ steps after T timesteps.
A recipe picks the range r per channel; the threshold is then θ = r / Γ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from seenn.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from converter.statistics import SiteStatistics


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Chooses a site's range from its statistics; a frozen dataclass whose fields are its settings."""

    name: ClassVar[str]
    learned: ClassVar[bool] = False  # copies the thresholds of activations that were trained with some
    per_channel: bool = True  # whether each channel has a range of its own

    @abstractmethod
    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        """The largest activation to represent, ``[C]`` or ``[1]``, given ``steps`` = T·Γ levels."""


RECIPES: Registry[type[Recipe]] = Registry("recipe", "converter.recipes")
