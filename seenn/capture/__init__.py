"""Capturing models as graphs. Importing this package registers its handlers, one family of calls a file."""

import importlib
import pkgutil

from seenn.capture.build import build_graph, site_name, to_graph
from seenn.capture.captured import CapturedGraph, Offender, Unsupported
from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.capture.trace import Tracer, capture, trace, trace_exported

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Alias",
    "Call",
    "CapturedGraph",
    "Made",
    "Offender",
    "Refused",
    "Result",
    "Tracer",
    "Unsupported",
    "build_graph",
    "capture",
    "handles",
    "site_name",
    "to_graph",
    "trace",
    "trace_exported",
]
