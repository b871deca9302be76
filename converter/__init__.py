"""ANN in, spiking network out: loading, tracing, normalising, calibrating, checking.

::

    snn = convert("resnet18", weights="ann.pth", data=seenn.load_data("fashion-mnist"))
    snn = convert(module, images)
"""

from converter.checks import CheckReport, check
from converter.config import ConvertConfig
from converter.conversion import Conversion, canonical_graph, convert_module
from converter.corrections import CORRECTIONS, Correction
from converter.direct import train_direct
from converter.pipeline import convert
from converter.policy import train_policy
from converter.recipes import RECIPES, Recipe
from converter.recipes.max import Max
from converter.recipes.mmse import MMSE
from converter.recipes.percentile import Percentile
from converter.recipes.qcfs import Learned
from converter.statistics import SiteStatistics

__all__ = [
    "CORRECTIONS",
    "MMSE",
    "RECIPES",
    "CheckReport",
    "Conversion",
    "ConvertConfig",
    "Correction",
    "Learned",
    "Max",
    "Percentile",
    "Recipe",
    "SiteStatistics",
    "canonical_graph",
    "check",
    "convert",
    "convert_module",
    "train_direct",
    "train_policy",
]
