"""Thresholds as they were learned."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from converter.recipes import RECIPES, Recipe
from converter.statistics import SiteStatistics
from seenn.errors import ConversionError


@RECIPES.register("qcfs")
class Learned(Recipe):
    """The thresholds that a QCFS network was trained with (Bu et al. 2022), copied as they are.

    A neuron with one spike a step that starts at θ/2 then computes, on constant input and with T = L, exactly
    what its activation did.
    """

    name: ClassVar[str] = "qcfs"
    learned: ClassVar[bool] = True

    def range(self, statistics: SiteStatistics, steps: int) -> Tensor:
        raise ConversionError(
            "the qcfs recipe copies learned thresholds, and a ReLU has none: train the model with "
            "`seenn train-ann --activation qcfs`, or choose another recipe"
        )
