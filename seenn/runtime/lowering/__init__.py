"""Lowering: a spiking network as sums, counts and comparisons, in whole numbers where it can be."""

from seenn.runtime.lowering.lower import choose_rounding, fold, lower
from seenn.runtime.lowering.program import InputGrid, LayerReport, Program
from seenn.runtime.lowering.rounding import Rounding

__all__ = ["InputGrid", "LayerReport", "Program", "Rounding", "choose_rounding", "fold", "lower"]
