"""ANN in, ``SpikingNetwork`` out: loading, tracing, normalising, calibrating, checking."""

from converter.check import CheckReport, check
from converter.config import RECIPES, ConvertConfig, NeuronSpec
from converter.convert import Conversion, canonical_graph, convert
from converter.recipes import MMSE, Learned, Max, Percentile, Recipe, SiteStatistics

__all__ = [
    "MMSE",
    "RECIPES",
    "CheckReport",
    "Conversion",
    "ConvertConfig",
    "Learned",
    "Max",
    "NeuronSpec",
    "Percentile",
    "Recipe",
    "SiteStatistics",
    "canonical_graph",
    "check",
    "convert",
]
