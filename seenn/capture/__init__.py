"""Capturing models as graphs. Importing this package registers the handlers."""

from seenn.capture import (
    activation,
    arithmetic,
    attention,
    layers,
    normalisation,
    patches,
    pooling,
    reduction,
    select,
    shape,
    smooth,
    spatial,
)
from seenn.capture.handlers import Alias, Call, Made, Refused, any_layout, handles
from seenn.capture.trace import Tracer, capture, trace, trace_exported
from seenn.capture.translate import site_name, to_graph, translate
from seenn.capture.translation import Offender, Translation, Unsupported

__all__ = [
    "Alias",
    "Call",
    "Made",
    "Offender",
    "Refused",
    "Tracer",
    "Translation",
    "Unsupported",
    "activation",
    "any_layout",
    "arithmetic",
    "attention",
    "capture",
    "handles",
    "layers",
    "normalisation",
    "patches",
    "pooling",
    "reduction",
    "select",
    "shape",
    "site_name",
    "smooth",
    "spatial",
    "to_graph",
    "trace",
    "trace_exported",
    "translate",
]
