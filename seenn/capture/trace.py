"""From an ``nn.Module`` to a graph over the closed op set, at call sites.

The trace is torch.fx's: every *call* is a node, so a ReLU module that a block uses twice is two sites.
What cannot be expressed is collected and reported all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from seenn.capture.handlers import Alias, Call, Refused, find_handler
from seenn.errors import UnsupportedError
from seenn.graph import INPUT, Node, OpGraph, prune
from seenn.network import SpikingNetwork
from seenn.ops import IFNeuron

Leaf = Callable[[nn.Module], bool]


@dataclass(frozen=True)
class Offender:
    """A call outside the closed op set."""

    name: str
    what: str
    reason: str
    fix: str

    def __str__(self) -> str:
        hint = f" — {self.fix}" if self.fix else ""
        return f"{self.name} ({self.what}): {self.reason}{hint}"


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


def trace(model: nn.Module, example: Tensor, tracer: fx.Tracer | None = None) -> fx.GraphModule:
    """The fx graph of ``model`` with shapes, traced for inputs like ``example`` ``[B, C, H, W]``.

    Raises:
        UnsupportedError: the model's Python control flow depends on the data, or it fails on the example.
    """
    tracer = tracer or Tracer()
    try:
        graph = tracer.trace(model)
        traced = fx.GraphModule(tracer.root, graph)
        with torch.no_grad():
            ShapeProp(traced).propagate(example)
    except Exception as error:
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced on input of shape {list(example.shape)}: "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}. "
            "Its forward must take one image batch, and must not branch on the values in it."
        ) from error
    return traced


def to_graph(traced: fx.GraphModule) -> OpGraph:
    """Translates a traced module into the closed op set.

    Raises:
        UnsupportedError: lists every call that has no equivalent, with the reason and a fix.
    """
    nodes: list[Node] = []
    offenders: list[Offender] = []
    names: dict[fx.Node, str | tuple[str, ...]] = {}
    taken: set[str] = {INPUT}
    output = ""
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            names[node] = INPUT
        elif node.op == "output":
            (result,) = node.args
            if isinstance(result, fx.Node) and isinstance(names.get(result), str):
                output = str(names[result])
            elif not offenders:
                offenders.append(Offender("output", type(result).__name__, "the model returns more than logits",
                                          "return one tensor [B, classes]"))  # fmt: skip
        elif node.op != "get_attr" and _is_tensor(node):
            try:
                names[node] = _translate(node, traced, names, taken, nodes)
            except (Refused, ValueError) as refusal:
                fix = refusal.fix if isinstance(refusal, Refused) else ""
                offenders.append(Offender(site_name(node), _spelling(node, traced), str(refusal), fix))
                names[node] = f"!{node.name}"
                taken.add(f"!{node.name}")
    if offenders:
        listed = "\n".join(f"  {offender}" for offender in offenders)
        raise UnsupportedError(f"{len(offenders)} calls are outside what a spiking network can express:\n{listed}")
    if output == INPUT:
        raise UnsupportedError("the model returns its input: there is nothing to convert")
    return OpGraph(prune(nodes, output), output)


def capture(model: nn.Module, example: Tensor) -> SpikingNetwork:
    """A ``SpikingNetwork`` from a model that holds neurons (``IFNeuron``), for the engines to run.

    The network shares the model's parameters: training one trains the other. Every call of a neuron
    becomes a site with a membrane of its own.

    Args:
        model: takes images ``[B, C, H, W]`` and returns this timestep's logits ``[B, K]``.
        example: a batch of images, for shapes.

    Raises:
        UnsupportedError: lists every call that is outside the closed op set, or there are no neurons.
    """
    graph = to_graph(trace(model, example))
    for module in model.modules():
        if isinstance(module, IFNeuron):
            module.reset()  # tracing ran them once
    if not any(isinstance(node.op, IFNeuron) for node in graph):
        raise UnsupportedError(
            f"{type(model).__name__} holds no neurons: put seenn.IFNeuron in place of its activations, "
            "or convert it with converter.convert"
        )
    return SpikingNetwork(graph, tuple(example.shape[1:]))


def site_name(node: fx.Node) -> str:
    """The call's name in reports: the module's path, or the path of the function's caller and its name."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack")
    path = next(reversed(stack)) if stack else ""
    return f"{path}.{node.name}" if path else node.name


def _translate(
    node: fx.Node,
    traced: fx.GraphModule,
    names: dict[fx.Node, str | tuple[str, ...]],
    taken: set[str],
    nodes: list[Node],
) -> str | tuple[str, ...]:
    source = node.args[0] if node.args else None
    if isinstance(source, fx.Node) and isinstance(names.get(source), tuple) and isinstance(node.args[1], int):
        return names[source][node.args[1]]  # one output of a split
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    handler = find_handler(module if module is not None else node.target)
    if handler is None:
        raise Refused("has no spiking equivalent", "")
    made = handler(Call(node, module, node.args, node.kwargs))
    if isinstance(made, Alias):
        return names[made.source]
    outputs = made if isinstance(made, tuple) else (made,)
    added = []
    for item in outputs:
        inputs = []
        for read in item.inputs:
            name = names.get(read)
            if not isinstance(name, str):
                raise Refused("reads a constant or a tuple", "compute it from the image")
            inputs.append(name)
        name = _unique(site_name(node), taken)
        if all(not name.startswith("!") for name in inputs):
            nodes.append(Node(name, item.op, tuple(inputs)))
        added.append(name)
    return tuple(added) if isinstance(made, tuple) else added[0]


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}#{count}"
    taken.add(candidate)
    return candidate


def _is_tensor(node: fx.Node) -> bool:
    """Calls that yield sizes and flags are resolved by the traced shapes."""
    kind: Any = node.meta.get("type")
    return kind is not None and (kind in (tuple, list) or issubclass(kind, Tensor)) and "tensor_meta" in node.meta


def _spelling(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))).__name__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
