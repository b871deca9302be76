"""From an ``nn.Module`` to an fx graph, at call sites.

The trace is torch.fx's: every *call* is a node, so a ReLU module that a block uses twice is two sites.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from seenn.capture.build import to_graph
from seenn.capture.counted import Loops, count_dependence
from seenn.capture.counters import leave_out_counters
from seenn.capture.draws import refuse_draws
from seenn.capture.export import export_graph
from seenn.capture.failure import explained, untraceable
from seenn.capture.handlers import find_handler
from seenn.capture.hooks import held_by, is_hooked, is_written, leave_out_observers
from seenn.capture.propagate import note_shapes
from seenn.capture.state import (
    LOST,
    STATE_FIX,
    WorkingCopy,
    assignable_buffers,
    run_apart,
    tensors_in,
)
from seenn.capture.value import Value
from seenn.core.graph import PROBE_BATCHES, without_global_hooks
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron, reset
from seenn.errors import UnsupportedError
from seenn.registry import load_plugins


class Tracer(fx.Tracer):
    """Keeps every module that has a handler as one call, and looks inside all others."""

    def __init__(self, leaves: Sequence[type[nn.Module]] = (), functions: Sequence[Callable[..., Any]] = ()) -> None:
        super().__init__(autowrap_functions=tuple(functions))
        self._leaves = tuple(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if "forward" in vars(m):  # in place of its class's
            return False
        if find_handler(m) is not None or isinstance(m, self._leaves):
            return True
        inside_torch = m.__module__.startswith("torch.nn.")
        return inside_torch and not isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Value(node, self)

    def create_arg(self, a: Any) -> Any:
        """A tensor that no module has, such as a global one, comes in the precision that the model is traced in."""
        if isinstance(a, Tensor) and a.dtype.is_floating_point and a not in self.tensor_attrs:
            precision = torch.promote_types(a.dtype, torch.get_default_dtype())
            a = a if a.dtype == precision else a.detach().to(precision)
        return super().create_arg(a)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A module inside the model that cannot be followed stays one call, which is reported with all others."""
        before, stack, scope = len(self.graph.nodes), OrderedDict(self.module_stack), copy.copy(self.scope)
        try:
            if is_hooked(m) and self.is_leaf_module(m, self.path_of_module(m)):
                return self._hooked(m, forward, args, kwargs)
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            for node in reversed(list(self.graph.nodes)[before:]):
                self.graph.erase_node(node)
            self.module_stack, self.scope = stack, scope
            proxy = self.create_proxy("call_module", self.path_of_module(m), args, kwargs)
            proxy.node.meta["opaque"] = explained(m, error, self.path_of_module(m))
            return proxy

    def _hooked(self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A leaf is one call, and what its hooks do before and after it others: they run around its ``forward``."""
        path, own, calls, before = self.path_of_module(m), held_by(m), [], dict(vars(m))

        def leaf(*args: Any, **kwargs: Any) -> Any:
            calls.append(self.create_proxy("call_module", path, args, kwargs))
            return calls[-1]

        vars(m)["forward"] = leaf
        try:
            made = super().call_module(m, forward, args, kwargs)
        finally:
            del vars(m)["forward"]
        if is_written(m, own):
            vars(m).update(before)  # it is refused at the call, with what to do
            for call in calls:
                call.node.meta["rewritten"] = True
        return made


def trace(model: nn.Module, example: Tensor, tracer: fx.Tracer | None = None) -> fx.GraphModule:
    """The fx graph of ``model`` with shapes, traced for inputs like ``example`` ``[B, C, H, W]``.

    A copy of the model is run on shapes only: nothing is computed, and the model stays as it is. Parameters and
    buffers of the graph are those of the model.

    Raises:
        UnsupportedError: the model's Python control flow depends on the data, it keeps values of its own from call
            to call, or it fails on the example.
    """
    tracer = tracer or Tracer()

    def follow(copied: WorkingCopy) -> fx.GraphModule:
        whole = copied.model
        if tracer.is_leaf_module(whole, ""):  # one layer, or one neuron: a call like those of others, not followed
            whole = nn.Sequential(whole)
        else:
            _enter_as_called(whole)
        with assignable_buffers():
            graph = tracer.trace(whole)
        traced = fx.GraphModule(tracer.root, graph)
        note_shapes((traced, traced), example)
        return traced

    return _on_a_copy(follow, model, example)


def trace_exported(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """As ``trace``, by ``torch.export``: slower, and it follows what fx cannot."""

    def export(copied: WorkingCopy) -> fx.GraphModule:
        # Sizes are numbers in these graphs: those that follow the batch differ between two of them.
        images = (example.new_empty(batch, *example.shape[1:]) for batch in PROBE_BATCHES)
        if isinstance(loop := count_dependence(copied.model, example), Loops):
            raise loop  # which is one graph for each image
        with copied.watched():
            first, second = (export_graph(copied.model, each) for each in images)
        note_shapes((first, second), example)
        return first

    return _on_a_copy(export, model, example)


def _enter_as_called(model: nn.Module) -> None:
    """Makes torch.fx, which calls the ``forward`` of the class, see the model as it is called: with one batch, and
    with hooks and a ``forward`` of its own."""
    base = type(model)
    vars(model)["forward"] = model.forward

    def forward(self: nn.Module, x: Any) -> Any:
        return nn.Module._call_impl(self, x)  # type: ignore[no-untyped-call]

    model.__class__ = type(base.__name__, (base,), {"forward": forward, "__module__": base.__module__})


def _on_a_copy(follow: Callable[[WorkingCopy], fx.GraphModule], model: nn.Module, example: Tensor) -> fx.GraphModule:
    load_plugins()
    with WorkingCopy(model) as copied:
        leave_out_observers(copied.model, example)
        leave_out_counters(copied, example)
        try:
            with without_global_hooks():
                traced = follow(copied)
        except Exception as error:
            copied.refuse_changes()
            raise untraceable(model, example, error) from error
        copied.refuse_changes()
        copied.name_kept(traced)
        return traced


def capture(model: nn.Module, example: Tensor) -> SpikingNetwork:
    """A ``SpikingNetwork`` from a model that holds neurons (``IFNeuron``, ``LIFNeuron``), for the engines to run.

    The network shares the model's parameters and buffers: training one trains the other. Every call of a neuron
    becomes a site with a membrane of its own. The model itself is not changed.

    Args:
        model: takes images ``[B, C, H, W]`` and returns this timestep's logits ``[B, K]``.
        example: a batch of images, for shapes.

    Raises:
        UnsupportedError: lists every call that is outside the closed op set; or there are no neurons; or the model
            keeps values from call to call otherwise than in neurons, be it outside of its modules.
    """
    if not any(module.training for module in model.modules()):
        refuse_draws(model, example)
    repeats = _repeats(model, example)  # now: a trace may leave its own values where the model keeps some
    try:
        graph = to_graph(trace(model, example))
    except UnsupportedError as error:
        if repeats or LOST in str(error):  # which names what is kept
            raise
        graph = None
    if graph is None or not repeats:
        raise UnsupportedError(
            f"{type(model).__name__} gives other outputs in a second run, after reset(): it draws at random, or keeps "
            f"values outside of its modules: {STATE_FIX}"
        )
    if not any(isinstance(node.op, Neuron) for node in graph):
        raise UnsupportedError(
            f"{type(model).__name__} holds no neurons: put seenn.IFNeuron in place of its activations, "
            "or convert it with converter.convert"
        )
    return SpikingNetwork(graph, tuple(example.shape[1:]))


def _repeats(model: nn.Module, example: Tensor) -> bool:
    """Whether a second run, after a ``reset()`` of the neurons, gives what the first one did; True where none can."""
    images = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    runs = []
    with WorkingCopy(model) as copied:
        for _ in range(2):
            reset(copied.model)
            try:
                runs.append([run_apart(copied.model, (images,)) for _ in range(2)])
            except Exception:  # what is called on two sizes needs two membranes, as the network will have
                return True
    return all(torch.equal(a, b) for a, b in zip(*map(tensors_in, runs), strict=False))
