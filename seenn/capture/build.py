"""From a traced module to a graph over the closed op set; what cannot be expressed is collected, not skipped."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_arg

from seenn.capture.captured import CapturedGraph, Offender, Passing, Unsupported
from seenn.capture.handlers import IMAGE, Alias, Call, Made, Refused, called, find_handler
from seenn.capture.layout import Layout
from seenn.capture.quantiser import find_quantisers
from seenn.capture.spelled import simplified
from seenn.capture.state import CONSTANT, LOST, STATE_FIX
from seenn.core.graph import INPUT, Node, OpGraph, prune, shapes_only
from seenn.core.ops import Op, Reshape
from seenn.errors import UnsupportedError, first_line

SITE = "site"  # key in the meta of a traced call: the node of the graph that holds its value
_FIRST = ("input", "tensors", "x")  # what torch, and neurons, call their first argument
#: Make a tensor of their own, whatever values the one they are called on has.
_CREATORS = ("new_zeros", "new_ones", "new_full", "new_tensor", "zeros_like", "ones_like", "full_like")
_NOT_STRICT = "convert without --strict (strict=False): it then acts on running means, or multiplies spikes"


def to_graph(traced: fx.GraphModule, *, strict: bool = True) -> OpGraph:
    """A traced module as a graph over the closed op set; raises as ``CapturedGraph.checked`` does."""
    return build_graph(traced).checked(strict=strict)


def build_graph(traced: fx.GraphModule) -> CapturedGraph:
    """A traced module as a graph of what can be expressed, with notes of what cannot.

    Raises:
        UnsupportedError: the model returns its input.
    """
    return _GraphBuilder(traced).run()


def site_name(node: fx.Node) -> str:
    """The call's name in reports: the module's path, or the path of the function's caller and its name."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack")
    path, kind = next(reversed(stack.values())) if stack else ("", "")
    if str(kind).startswith("torch.nn.modules."):  # an exported graph names the operator inside
        return str(path)
    return f"{path}.{node.name}" if path else node.name


class _Lost:
    """The value of a call that cannot be expressed and whose images cannot be found: readers are not blamed."""


_LOST = _Lost()
_Name = str | _Lost | None | tuple[str | _Lost | None, ...]


class _GraphBuilder:
    """One pass over the calls."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._nodes: list[Node] = []
        self._offenders: list[Offender] = []
        self._names: dict[fx.Node, _Name] = {}
        self._constants: dict[fx.Node, Tensor | tuple[Any, ...]] = {}  # tuples where several come at once
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._shaped: dict[str, Tensor] = {}  # the nodes' values, which have a shape only
        self._reshapes: dict[str, str] = {}  # what reshapes read: two in a row are one
        self._cause: Exception | None = None

    def run(self) -> CapturedGraph:
        output = ""
        for node in self._traced.graph.nodes:
            if node.op == "placeholder":
                if INPUT not in self._names.values():  # options after the image keep their defaults
                    self._names[node] = INPUT
                    with shapes_only(self._mode):
                        self._shaped[INPUT] = torch.empty(node.meta["shape"], dtype=node.meta["dtype"])
            elif node.op == "get_attr":
                if isinstance(value := operator.attrgetter(str(node.target))(self._traced), Tensor):
                    self._constants[node] = value
            elif node.op == "output":
                output = self._output(node)
            elif "shape" in node.meta or node.meta["changes"]:
                self._step(node)
        if output == INPUT:
            raise UnsupportedError("the model returns its input: there is nothing to convert")
        graph, offenders = OpGraph(self._nodes, output), self._offenders
        if not isinstance(graph[output].op, Unsupported):
            graph, others = find_quantisers(simplified(graph), self._shaped)
            alive = [node.name for node in graph if node.op.island]
            offenders = [o for o in offenders if not o.analog or any(name.startswith(o.name) for name in alive)]
            offenders.extend(others)
            refused = {o.name for o in offenders}
            for node in prune(graph, graph.output):
                if isinstance(node.op, Passing) and node.name not in refused:
                    offenders.append(Offender(node.name, node.op.kind, node.op.reason, node.op.fix))
        return CapturedGraph(graph, tuple(offenders), self._cause)

    def _output(self, node: fx.Node) -> str:
        result: Any = node.args[0]
        name = self._names.get(result) if isinstance(result, fx.Node) else None
        what, why = "return", self._stale(node)
        if why is None and isinstance(name, str):
            if _plain(result.meta["layout"]):
                return name
            shape = list(result.meta["shape"])
            why = f"returns {shape}, with images along another axis than the first", "return one row an image"
        elif why is None and name is not _LOST:
            what, why = type(result).__name__, ("the model returns more than logits", "return one tensor [B, classes]")
        if why is not None:
            self._offenders.append(Offender("output", what, *why))
        return self._add("output", Unsupported("return", ()), (INPUT,))

    def _step(self, node: fx.Node) -> None:
        try:
            if kept := [path for read in node.meta["changes"] if (path := read.meta.get("kept"))]:
                raise Refused(f"{kept[0]} is {LOST}", STATE_FIX)
            if "shape" not in node.meta:
                return
            if self._is_constant(node):
                value = self._folded(node)
                if isinstance(value, Tensor | tuple | list):
                    self._constants[node] = value if isinstance(value, Tensor) else tuple(value)
                return  # without a value it is a weight that training changes: its reader is refused
            if any(self._is_lost(read) for read in node.all_input_nodes):
                self._names[node] = self._unsupported(node)
                return
            self._names[node] = node.meta[SITE] = self._translated(node)
        except Exception as error:  # whatever it is: the call has no equivalent then, and is listed with the others
            reason, fix = self._why(error)
            self._offenders.append(Offender(site_name(node), _spelling(node, self._traced), reason, fix))
            if "shape" in node.meta:
                self._names[node] = self._unsupported(node)

    def _is_lost(self, read: fx.Node) -> bool:
        """Whether what makes a value is refused already, and its readers are not to blame."""
        name = self._names.get(read)
        return name is _LOST or (isinstance(name, str) and name != INPUT and _is_complex(read))

    def _why(self, error: Exception) -> tuple[str, str]:
        """Reason and fix of a refusal; of anything else its type and message, and it is kept as the cause."""
        if isinstance(error, Refused):
            return error.reason, error.fix
        if isinstance(error, ValueError):  # an op's own word on its attributes
            return str(error), ""
        self._cause = self._cause or error
        return f"cannot be translated: {first_line(error)}", "write it another way, or report it with this message"

    def _stale(self, node: fx.Node) -> tuple[str, str] | None:
        """Reason and fix where a call reads what was changed since; constants are computed in order, as eager code."""
        stale = [read.name for read in node.meta["stale"] if read not in self._constants]
        if not stale:
            return None
        reason = f"reads {', '.join(stale)}, which a later call has changed in place"
        return reason, "keep the changed value by name (y = relu(x)) and read that, or change a copy"

    def _is_constant(self, node: fx.Node) -> bool:
        """Whether a call does not depend on the image, be it on how many there are."""
        shape = node.meta["shape"]
        if isinstance(shape, torch.Size) and 0 in shape:
            return True  # no values at all
        return called(node.target) in _CREATORS or all(
            "value" in read.meta or read in self._constants or read not in self._names for read in node.all_input_nodes
        )

    def _folded(self, node: fx.Node) -> Any:
        """Its value, with batch axes of size 1; None where training changes what it reads, which nodes share."""
        if 0 in node.meta["shape"]:
            return torch.zeros(node.meta["one_image"], dtype=node.meta["dtype"])
        known = [self._constants.get(read) for read in node.all_input_nodes if "value" not in read.meta]
        reads = [part for value in known for part in (value if isinstance(value, tuple) else (value,))]
        if called(node.target) not in _CREATORS and any(tensor is None or tensor.requires_grad for tensor in reads):
            return None

        def resolve(read: fx.Node) -> Any:
            if read in self._constants:
                return self._constants[read]
            found = read.meta["one_image"]
            if "value" not in read.meta:
                return torch.zeros(found, dtype=read.meta["dtype"])
            if read.meta["varies"] and isinstance(found, float | bool):
                raise Refused("depends on how many images there are", "keep images independent")
            return found

        args, kwargs = map_arg(node.meta["arguments"], resolve)
        with torch.no_grad():
            if node.op == "call_method":
                value = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                target: Any = (
                    node.target if node.op == "call_function" else self._traced.get_submodule(str(node.target)).forward
                )
                value = target(*args, **kwargs)
        return value

    def _translated(self, node: fx.Node) -> _Name:
        if stale := self._stale(node):
            raise Refused(*stale)
        if why := node.meta.get("opaque"):
            opaque = self._traced.get_submodule(str(node.target))
            advice = why[1][0].lower() + why[1][1:].removesuffix(".")
            raise Refused(
                f"cannot be traced: {why[0]}", f"change its forward: {advice}; else {_substitute(opaque)}split it up"
            )
        if found := [read for read in (node, *node.all_input_nodes) if _is_complex(read)]:
            held = [str(read.target) for read in found if read.op == "get_attr" and CONSTANT not in str(read.target)]
            raise Refused(
                f"computes with complex numbers{' of ' * bool(held)}{', '.join(held)}, and spikes carry real ones",
                "compute with real and imaginary parts as two real values",
            )
        given = node.args or tuple(node.kwargs[name] for name in _FIRST if name in node.kwargs)[:1]
        if not given:
            raise Refused("gives its input under an unusual name", "pass the input by position")
        source = self._names.get(given[0]) if isinstance(given[0], fx.Node) else None
        if node.target is operator.getitem and isinstance(source, tuple) and isinstance(given[1], int):
            return source[given[1]]  # one output of a split
        if node.target is getattr and isinstance(source, tuple) and given[1] == "values":
            return source[0]  # of a maximum with its places
        module = self._traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.meta.get("rewritten"):
            raise Refused(
                "has forward hooks that write into it", "remove them first (weight_norm has remove_weight_norm)"
            )
        handler = find_handler(module if module is not None else node.target)
        if handler is None:
            raise Refused("has no spiking equivalent", f"{_substitute(module)}give it a handler in a --plugin")
        args, kwargs = map_arg((given, node.kwargs), _known)
        call = Call(node, module, args, kwargs, self._constants)
        if not handler.any_layout:
            for read in node.all_input_nodes:
                shape = read.meta.get("shape")
                if read in self._names and isinstance(shape, torch.Size) and not _plain(read.meta["layout"]):
                    raise Refused(
                        f"works on a value of shape {list(shape)}, whose first axis is not the batch alone",
                        "bring it to [B, ...] before",
                    )
        made = handler.make(call)
        site = site_name(node)
        if islands := list(dict.fromkeys(op.title for op in _ops(made) if op.island)):
            named = "" if islands == [site.rpartition(".")[2]] else f"{' and '.join(islands)}: "
            reason = f"{named}neither linear over time nor spikes"
            self._offenders.append(Offender(site, _spelling(node, self._traced), reason, _NOT_STRICT, analog=True))
        if isinstance(made, tuple):
            parts = tuple(None if part is None else self._emit(part, site) for part in made)
            for part, shape, layout in zip(parts, node.meta["shape"], node.meta["layout"], strict=False):
                self._check(part, shape, layout)
            return parts
        name = self._emit(made, site)
        self._check(name, node.meta["shape"], node.meta["layout"])
        return name

    def _check(self, name: str | None, traced: Any, layout: Layout | tuple[Layout | None, ...] | None) -> None:
        """Refuses what gives another shape than the model does."""
        if name is None or not isinstance(layout, Layout):
            return
        if (own := tuple(self._shaped[name].shape[1:])) != layout.image(traced):
            raise Refused(
                f"becomes a value of shape {list(own)} an image where the model has {list(layout.image(traced))}",
                "write it another way, or report it with this message",
            )

    def _emit(self, made: Made | Alias, name: str) -> str:
        """Adds the nodes of ``made``, what it reads first; the name of its value."""
        if isinstance(made, Alias):
            return (
                self._emit(made.source, name)
                if isinstance(made.source, Made | Alias)
                else self._read(made.source, name)
            )
        inputs = tuple(self._read(value, name) for value in made.inputs)
        return self._add(name, made.op, inputs)

    def _read(self, value: Any, site: str) -> str:
        while isinstance(value, Alias):
            value = value.source
        if isinstance(value, Made):
            return self._emit(value, f"{site}.{value.op.title}")
        if value is IMAGE:
            return INPUT
        name = self._names.get(value) if isinstance(value, fx.Node) else None
        if not isinstance(name, str):
            raise Refused("reads a constant, an option or a tuple", "compute it from the image, one value at a time")
        return name

    def _add(self, name: str, op: Op, inputs: tuple[str, ...]) -> str:
        """Adds a node and runs it on shapes: an op that does not fit what it reads is found at its own call."""
        if isinstance(op, Reshape) and (before := self._reshapes.get(inputs[0])) is not None:
            inputs = (before,)
            if tuple(self._shaped[before].shape[1:]) == op.shape:
                return before
        candidate, count = name, 1
        while candidate in self._shaped:
            count += 1
            candidate = f"{name}#{count}"
        with shapes_only(self._mode):
            self._shaped[candidate] = op.shaped(*(self._shaped[read] for read in inputs))
        self._nodes.append(Node(candidate, op, inputs))
        if isinstance(op, Reshape):
            self._reshapes[candidate] = inputs[0]
        return candidate

    def _unsupported(self, node: fx.Node) -> _Name:
        """Stand-ins for the values of a call."""
        found = node.meta["shape"]
        reads = [name for read in node.all_input_nodes if isinstance(name := self._names.get(read), str)]

        def stand_in(shape: torch.Size | None, layout: Layout | None) -> str | _Lost | None:
            if shape is None or layout is None:
                return _LOST
            op = Unsupported(_spelling(node, self._traced), layout.image(shape))
            return self._add(site_name(node), op, tuple(reads) or (INPUT,))

        layout = node.meta["layout"]
        return stand_in(found, layout) if isinstance(found, torch.Size) else tuple(map(stand_in, found, layout))


def _ops(made: Any) -> Iterator[Any]:
    """The ops in what a handler returned."""
    if isinstance(made, tuple):
        for part in made:
            yield from _ops(part)
    elif isinstance(made, Alias):
        yield from _ops(made.source)
    elif isinstance(made, Made):
        yield from _ops(made.inputs)
        yield made.op


def _substitute(module: nn.Module | None) -> str:
    """The advice to say what stands for a module."""
    return (
        "" if module is None else f"say what stands for it, activations={{{type(module).__name__}: lambda m: …}}, or "
    )


def _plain(layout: Any) -> bool:
    return isinstance(layout, Layout) and layout.plain


def _is_complex(read: fx.Node) -> bool:
    return "dtype" in read.meta and bool(read.meta["dtype"].is_complex)


def _known(read: fx.Node) -> Any:
    """A size, a flag or an option's default as what it is; what depends on the number of images as its node."""
    return read.meta["value"] if "value" in read.meta and not read.meta["varies"] else read


def _spelling(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        return type(traced.get_submodule(str(node.target))).__name__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
