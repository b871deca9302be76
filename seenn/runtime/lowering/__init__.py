"""Lowering: a spiking network as sums, counts and comparisons, in integers where it can be."""

from seenn.runtime.lowering.lower import choose_rounding, fold, lower
from seenn.runtime.lowering.program import InputScale, LayerReport, Program
from seenn.runtime.lowering.rounding import Rounding

__all__ = ["InputScale", "LayerReport", "Program", "Rounding", "choose_rounding", "fold", "lower"]
