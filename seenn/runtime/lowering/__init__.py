"""Lowering: a spiking network as sums, counts and comparisons, in integers where it can be."""

from seenn.runtime.lowering.lower import choose_rounding, fold, lower
from seenn.runtime.lowering.program import InputScale, Program
from seenn.runtime.lowering.rounding import Rounding

__all__ = ["InputScale", "Program", "Rounding", "choose_rounding", "fold", "lower"]
