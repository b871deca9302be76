"""ANN in, spiking network out: loading, tracing, normalising, calibrating, checking."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.checks import CheckReport, check
    from converter.config import ConvertConfig
    from converter.conversion import Conversion, canonical_graph, convert_module
    from converter.recipes import RECIPES, Recipe
    from converter.recipes.max import Max
    from converter.recipes.mmse import MMSE
    from converter.recipes.percentile import Percentile
    from converter.recipes.qcfs import Learned
    from converter.statistics import SiteStatistics

#: Imported when they are asked for, so that the registries of this package can be listed at once.
_MODULES = {
    "checks": ("CheckReport", "check"),
    "config": ("ConvertConfig",),
    "conversion": ("Conversion", "canonical_graph", "convert_module"),
    "recipes": ("RECIPES", "Recipe"),
    "recipes.max": ("Max",),
    "recipes.mmse": ("MMSE",),
    "recipes.percentile": ("Percentile",),
    "recipes.qcfs": ("Learned",),
    "statistics": ("SiteStatistics",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "MMSE",
    "RECIPES",
    "CheckReport",
    "Conversion",
    "ConvertConfig",
    "Learned",
    "Max",
    "Percentile",
    "Recipe",
    "SiteStatistics",
    "canonical_graph",
    "check",
    "convert_module",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
