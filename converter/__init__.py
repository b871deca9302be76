"""ANN in, spiking network out: loading, tracing, normalising, calibrating, checking.

::

    snn = convert("resnet18", weights="ann.pth", data=seenn.load_data("fashion-mnist"))
    snn = convert(module, images)

Every name is imported from its module when it is first asked for, so that recipes and corrections can be listed at
once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_NAMES = {  # by the module that they are imported from
    "checks": "CheckReport check",
    "config": "ConvertConfig",
    "conversion": "Conversion canonical_graph convert_module",
    "corrections": "CORRECTIONS Correction",
    "direct": "train_direct",
    "pipeline": "convert",
    "policy": "train_policy",
    "recipes": "RECIPES Recipe",
    "recipes.max": "Max",
    "recipes.mmse": "MMSE",
    "recipes.percentile": "Percentile",
    "recipes.qcfs": "Learned",
    "statistics": "SiteStatistics",
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names.split()}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'converter' has no attribute {name!r}")
    return getattr(importlib.import_module(f"converter.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
