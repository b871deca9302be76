"""The range of least squared error, on images that it was not found on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from converter.recipes import RECIPES, Recipe
from converter.statistics import SiteStatistics

_WIDER = (1.0, 1.25, 1.5, 2.0)  # times a channel's own range
_FLOOR = (
    0.0,
    0.125,
    0.25,
    0.35,
    0.5,
    0.7,
    0.85,
    1.0,
    1.25,
)  # times the layer's largest activation; the first wins ties


@RECIPES.register("mmse")
@dataclass(frozen=True, kw_only=True)
class MMSE(Recipe):
    """The range with the least squared error of rounding and clipping, on images that it was not found on.

    A channel's own range minimises ``E‖x − clip(⌊x·s/r + ½⌋, 0, s)·r/s‖²`` with s = T·Γ levels over
    r = max·(1 − i/100), i = 0 … ``grid`` − 1 (Li et al. 2021). A maximum over some images is not the maximum over the
    next ones, and what is clipped is an error that no number of levels mends. The range is therefore
    max(a·own, b·layer's maximum), with the a and b for which the ranges found on one half of the images have the least
    squared error on the other half, both ways: few levels keep a channel's own range, many of them pay for a wide one.
    """

    name: ClassVar[str] = "mmse"
    grid: int = 95  # candidates for a channel's own range, 1 to 100

    def __post_init__(self) -> None:
        if not 1 <= self.grid <= 100:
            raise ValueError(f"grid must be 1 to 100 candidates, got {self.grid}")

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        candidates = self._candidates(statistics, steps)
        if statistics.halves is None:
            return candidates[:, 0].to(statistics.maximum.dtype)
        first, second = statistics.halves
        error = second.error(self._candidates(first, steps), steps) + first.error(
            self._candidates(second, steps), steps
        )
        return candidates[:, error.sum(0).argmin()].to(statistics.maximum.dtype)

    def _candidates(self, statistics: SiteStatistics, steps: int) -> Tensor:
        """Ranges ``[C, mixtures]``, float64; the first is each channel's own."""
        maximum = statistics.maximum.double()
        own = maximum[:, None] * (1.0 - torch.arange(self.grid, dtype=torch.float64) / 100.0)
        own = own.gather(1, statistics.error(own, steps).argmin(1, keepdim=True))
        wider, floor = torch.tensor([*itertools.product(_WIDER, _FLOOR)], dtype=torch.float64).T
        return torch.maximum(own * wider, maximum.max() * floor)
