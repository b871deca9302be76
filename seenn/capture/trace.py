"""From an ``nn.Module`` to a graph over the closed op set, at call sites.

The trace is torch.fx's: every *call* is a node, so a ReLU module that a block uses twice is two sites.
What cannot be expressed is collected and reported all at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from seenn.capture.handlers import Alias, Call, Refused, find_handler
from seenn.capture.propagate import Propagate
from seenn.errors import UnsupportedError
from seenn.graph import INPUT, PROBE_BATCH, Node, OpGraph, prune, shapes_only
from seenn.network import SpikingNetwork
from seenn.ops import Neuron

_FIRST = ("input", "tensors", "x")  # what torch, and neurons, call their first argument
SITE = "site"  # key in the meta of a traced call: the node of the graph that holds its value
_REFUSED = "!"  # marks the value of an offender: what reads it is still checked


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

    The model is run on shapes only: nothing is computed, and neither its membranes nor its statistics change.

    Raises:
        UnsupportedError: the model's Python control flow depends on the data, or it fails on the example.
    """
    tracer = tracer or Tracer()
    try:
        graph = tracer.trace(model)
        traced = fx.GraphModule(tracer.root, graph)
        with shapes_only():
            # A reshape across images must not look like one within them: hence a batch size of its own.
            Propagate(traced).run(example.new_zeros(PROBE_BATCH, *example.shape[1:]))
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
            if INPUT not in names.values():  # options after the image have no name, so that nobody can read them
                names[node] = INPUT
        elif node.op == "output":
            (result,) = node.args
            if node.meta["stale"]:
                offenders.append(Offender("output", "return", *_stale(node)))
            elif isinstance(result, fx.Node) and isinstance(names.get(result), str):
                output = str(names[result])
            else:
                offenders.append(Offender("output", type(result).__name__, "the model returns more than logits",
                                          "return one tensor [B, classes]"))  # fmt: skip
        elif node.op != "get_attr" and "shape" in node.meta:
            try:
                names[node] = node.meta[SITE] = _translate(node, traced, names, taken, nodes)
            except (Refused, ValueError) as refusal:
                fix = refusal.fix if isinstance(refusal, Refused) else ""
                offenders.append(Offender(site_name(node), _spelling(node, traced), str(refusal), fix))
                names[node] = f"{_REFUSED}{node.name}"
    if offenders:
        listed = "\n".join(f"  {offender}" for offender in offenders)
        calls = "1 call is" if len(offenders) == 1 else f"{len(offenders)} calls are"
        raise UnsupportedError(f"{calls} outside what a spiking network can express:\n{listed}")
    if output == INPUT:
        raise UnsupportedError("the model returns its input: there is nothing to convert")
    return OpGraph(prune(nodes, output), output)


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
    if node.meta["stale"]:
        raise Refused(*_stale(node))
    args = node.args or tuple(node.kwargs[name] for name in _FIRST if name in node.kwargs)[:1]
    if not args:
        raise Refused("gives its input under an unusual name", "pass the input by position")
    source = names.get(args[0]) if isinstance(args[0], fx.Node) else None
    if node.target is operator.getitem and isinstance(source, tuple) and isinstance(args[1], int):
        return source[args[1]]  # one output of a split
    if node.target is operator.getitem and isinstance(source, str) and source.startswith(_REFUSED):
        return source  # one output of a call that is listed already
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    if module is not None and (module._forward_hooks or module._forward_pre_hooks):
        raise Refused("has forward hooks", "remove them first (weight_norm has remove_weight_norm)")
    handler = find_handler(module if module is not None else node.target)
    if handler is None:
        raise Refused("has no spiking equivalent")
    made = handler(Call(node, module, args, node.kwargs))
    if isinstance(made, Alias):
        return _read(made.source, names)
    outputs = made if isinstance(made, tuple) else (made,)
    added = []
    for item in outputs:
        inputs = tuple(_read(read, names) for read in item.inputs)
        name = _unique(site_name(node), taken)
        if not any(read.startswith(_REFUSED) for read in inputs):
            nodes.append(Node(name, item.op, inputs))
        added.append(name)
    return tuple(added) if isinstance(made, tuple) else added[0]


def _stale(node: fx.Node) -> tuple[str, str]:
    reason = f"reads {', '.join(node.meta['stale'])}, which a later call has changed in place"
    return reason, "keep the changed value by name (y = relu(x)) and read that, or change a copy"


def _read(value: Any, names: Mapping[fx.Node, str | tuple[str, ...]]) -> str:
    name = names.get(value) if isinstance(value, fx.Node) else None
    if not isinstance(name, str):
        raise Refused("reads a constant, an option or a tuple", "compute it from the image, one value at a time")
    return name


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}#{count}"
    taken.add(candidate)
    return candidate


def _spelling(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))).__name__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
