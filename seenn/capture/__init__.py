"""Capturing models as graphs. Importing this package registers the handlers."""

from seenn.capture import arithmetic, layers, pooling, shape
from seenn.capture.handlers import Alias, Call, Made, Refused, handles
from seenn.capture.trace import Offender, Tracer, capture, site_name, to_graph, trace

__all__ = [
    "Alias",
    "Call",
    "Made",
    "Offender",
    "Refused",
    "Tracer",
    "arithmetic",
    "capture",
    "handles",
    "layers",
    "pooling",
    "shape",
    "site_name",
    "to_graph",
    "trace",
]
