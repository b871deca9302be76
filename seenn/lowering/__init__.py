"""Lowering: a spiking network as sums, counts and comparisons, in whole numbers where it can be."""

from seenn.lowering.lower import fold, lower
from seenn.lowering.program import InputGrid, LayerReport, Program

__all__ = ["InputGrid", "LayerReport", "Program", "fold", "lower"]
