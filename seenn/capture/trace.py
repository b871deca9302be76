"""From an ``nn.Module`` to an fx graph, at call sites.

The trace is torch.fx's: every *call* is a node, so a ReLU module that a block uses twice is two sites.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from seenn.capture.export import export_graph
from seenn.capture.handlers import find_handler
from seenn.capture.propagate import Propagate
from seenn.capture.translate import to_graph
from seenn.core.graph import PROBE_BATCH, shapes_only
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron
from seenn.errors import UnsupportedError, first_line


class Tracer(fx.Tracer):
    """Keeps every module that has a handler as one call, and looks inside all others."""

    def __init__(self, leaves: Sequence[type[nn.Module]] = (), functions: Sequence[Callable[..., Any]] = ()) -> None:
        super().__init__(autowrap_functions=tuple(functions))
        self._leaves = tuple(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if find_handler(m) is not None or isinstance(m, self._leaves):
            return True
        inside_torch = m.__module__.startswith(("torch.nn.", "torch.ao.nn."))
        return inside_torch and not isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A module inside the model that cannot be followed stays one call, which is reported with all others."""
        before, stack, scope = len(self.graph.nodes), OrderedDict(self.module_stack), copy.copy(self.scope)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            for node in reversed(list(self.graph.nodes)[before:]):
                self.graph.erase_node(node)
            self.module_stack, self.scope = stack, scope
            proxy = self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
            proxy.node.meta["opaque"] = first_line(error)
            return proxy


def trace(model: nn.Module, example: Tensor, tracer: fx.Tracer | None = None) -> fx.GraphModule:
    """The fx graph of ``model`` with shapes, traced for inputs like ``example`` ``[B, C, H, W]``.

    The model is run on shapes only: nothing is computed, and neither its membranes nor its statistics change.

    Raises:
        UnsupportedError: the model's Python control flow depends on the data, or it fails on the example.
    """
    tracer = tracer or Tracer()
    try:
        graph = tracer.trace(model)
        return _propagated(fx.GraphModule(tracer.root, graph), example)
    except Exception as error:
        raise untraceable(model, example, error) from error


def trace_exported(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """As ``trace``, by ``torch.export``: slower, and it follows what fx cannot."""
    try:
        return _propagated(export_graph(model, example.new_empty(PROBE_BATCH, *example.shape[1:])), example)
    except Exception as error:
        raise untraceable(model, example, error) from error


def _propagated(traced: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    with shapes_only():
        # A reshape across images must not look like one within them: hence a batch size of its own.
        Propagate(traced).run(example.new_zeros(PROBE_BATCH, *example.shape[1:]))
    return traced


def untraceable(model: nn.Module, example: Tensor, error: Exception) -> UnsupportedError:
    """The error for a model that fails on ``example``, or while it is traced."""
    return UnsupportedError(
        f"{type(model).__name__} cannot be traced on input of shape {list(example.shape)}: "
        f"{first_line(error)}. "
        "Its forward must take one image batch, and must not branch on the values in it."
    )


def capture(model: nn.Module, example: Tensor) -> SpikingNetwork:
    """A ``SpikingNetwork`` from a model that holds neurons (``IFNeuron``, ``LIFNeuron``), for the engines to run.

    The network shares the model's parameters: training one trains the other. Every call of a neuron
    becomes a site with a membrane of its own.

    Args:
        model: takes images ``[B, C, H, W]`` and returns this timestep's logits ``[B, K]``.
        example: a batch of images, for shapes.

    Raises:
        UnsupportedError: lists every call that is outside the closed op set, or there are no neurons.
    """
    graph = to_graph(trace(model, example))
    if not any(isinstance(node.op, Neuron) for node in graph):
        raise UnsupportedError(
            f"{type(model).__name__} holds no neurons: put seenn.IFNeuron in place of its activations, "
            "or convert it with converter.convert"
        )
    return SpikingNetwork(graph, tuple(example.shape[1:]))
