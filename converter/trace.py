"""Tracing models of timm and torchvision: torch.fx, aware of what timm keeps opaque."""

from __future__ import annotations

from torch import Tensor, nn

from seenn.capture import Tracer, to_graph, trace
from seenn.graph import OpGraph


def trace_model(model: nn.Module, example: Tensor) -> OpGraph:
    """``model`` as a graph over the closed op set, one node a call.

    Raises:
        UnsupportedError: it cannot be traced, or lists every call that cannot be expressed.
    """
    return to_graph(trace(model, example, _tracer(model)))


def _tracer(model: nn.Module) -> Tracer:
    if not any(type(module).__module__.startswith("timm.") for module in model.modules()):
        return Tracer()
    import timm.models._features_fx  # noqa: F401 - registers the leaves
    from timm import layers

    return Tracer(tuple(layers.get_notrace_modules()), tuple(layers.get_notrace_functions()))
