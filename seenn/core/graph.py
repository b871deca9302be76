"""A network as data: named nodes over the closed op set, in the order in which they run."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules import module as torch_module

from seenn.core.ops import Op, StatelessOp
from seenn.native.cache import find, keep, key

INPUT = "input"  # the name by which nodes refer to the network's input
#: Tables of the hooks that are registered on all modules: before forward, and after.
GLOBAL_HOOKS = (torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks)
#: Images in the two runs on shapes of everything that looks for the batch: the axis whose size follows them.
PROBE_BATCHES = (1009, 1013)


@dataclass(frozen=True)
class Node:
    """One call: an op applied to the values of earlier nodes. Calls may share an op's tensors, never a state."""

    name: str
    op: Op
    inputs: tuple[str, ...]


class OpGraph(nn.Module):
    """Nodes in execution order, one input ``[B, ...]``, one output, and earlier ones where the graph has heads.

    Immutable: passes build new graphs (``replace``), sharing the ops that they do not change.

    Args:
        nodes: in execution order; every input is ``"input"`` or the name of an earlier node.
        output: the name of the node whose value is the result.
        heads: names of the nodes whose values are results as well, of less work, from the cheapest on.

    Raises:
        ValueError: a name is taken twice, refers forward, or does not exist; an op has too many inputs.
    """

    def __init__(self, nodes: Iterable[Node], output: str, heads: Iterable[str] = ()) -> None:
        super().__init__()
        self.nodes = tuple(nodes)
        self.output = output
        self.heads = tuple(heads)
        known = {INPUT}
        for node in self.nodes:
            if node.name in known:
                raise ValueError(f"two nodes are named {node.name!r}")
            if missing := [name for name in node.inputs if name not in known]:
                raise ValueError(f"node {node.name!r} reads {missing}, which no earlier node computes")
            if not node.inputs:
                raise ValueError(f"node {node.name!r} has no input")
            if len(node.inputs) != node.op.arity and not node.op.joins:
                takes = "one input" if node.op.arity == 1 else f"{node.op.arity} inputs"
                raise ValueError(f"node {node.name!r} ({node.op.title}) takes {takes}, got {len(node.inputs)}")
            known.add(node.name)
        for name in self.exits:
            if name not in known - {INPUT}:
                raise ValueError(f"the output {name!r} is not a node")
        if len({*self.exits}) < len(self.exits):
            raise ValueError(f"the outputs {', '.join(self.exits)} are not different nodes")
        self._shapes: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}  # found, by the input's
        self._by_name = {node.name: node for node in self.nodes}
        self.ops = nn.ModuleList(node.op for node in self.nodes)  # registers the parameters, once each

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        if name not in self._by_name:
            raise KeyError(f"no node {name!r} in this graph")
        return self._by_name[name]

    @property
    def exits(self) -> tuple[str, ...]:
        """The nodes whose values are scores: those of the heads, and the output."""
        return (*self.heads, self.output)

    def users(self) -> dict[str, list[Node]]:
        """Who reads each value; the output's reader is not listed."""
        users: dict[str, list[Node]] = {INPUT: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for name in node.inputs:
                users[name].append(node)
        return users

    def replace(self, changes: Mapping[str, Op]) -> OpGraph:
        """The same wiring with other ops at the named nodes."""
        nodes = (Node(n.name, changes.get(n.name, n.op), n.inputs) for n in self.nodes)
        return OpGraph(nodes, self.output, self.heads)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the wiring, the ops with their attributes, and every bit of their tensors."""
        digest = hashlib.sha256(" ".join(self.exits).encode())
        for node in self.nodes:
            config = json.dumps(node.op.config(), sort_keys=True)
            digest.update(repr((node.name, node.op.kind, config, node.inputs)).encode())
            for name, tensor in node.op.tensors().items():
                digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def forward(self, x: Tensor) -> Tensor:
        """Runs a graph without stateful ops: the analog network."""
        return self.evaluate(x, {self.output})[self.output]

    def evaluate(
        self,
        x: Tensor,
        keep: Iterable[str],
        visit: Callable[[Node, tuple[Tensor, ...]], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Values of the nodes in ``keep``; every other value is freed after its last use.

        ``visit`` computes a node from its inputs; by default it is the op itself, and a stateful op is an
        error.
        """
        kept = set(keep)
        values = {INPUT: x}
        for node, done in schedule(self.nodes, kept | {self.output}):
            inputs = tuple(values[name] for name in node.inputs)
            if visit is not None:
                values[node.name] = visit(node, inputs)
            elif isinstance(node.op, StatelessOp):
                values[node.name] = node.op(*inputs)
            else:
                raise TypeError(f"node {node.name!r} ({node.op.kind}) has state: run it in a SpikingNetwork")
            for name in done:
                del values[name]
        return {name: values[name] for name in kept}

    def shapes(self, input_shape: Sequence[int], *, kept: bool = False) -> dict[str, tuple[int, ...]]:
        """Every value's shape without the batch, for an input of ``input_shape`` ``[C, H, W]``; computes nothing.

        Args:
            kept: read what an earlier process found for the same ops, wiring and sizes (``seenn.native.cache``), or
                keep it for a later one: what finds shapes takes torch a second to import.

        Raises:
            ValueError: a node mixes the images of a batch. (What does not fit together raises as torch does.)
        """
        shape = tuple(input_shape)
        if shape not in self._shapes:
            self._shapes[shape] = self._kept_shapes(shape) if kept else self._run_shapes(shape)
        return dict(self._shapes[shape])

    def _kept_shapes(self, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        described = [(n.name, n.op.kind, json.dumps(n.op.config(), sort_keys=True), n.inputs) for n in self.nodes]
        sizes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in self.state_dict().items()]
        modules = {getattr(sys.modules[type(node.op).__module__], "__file__", None) for node in self.nodes}
        if None in modules:  # an op that was typed in
            return self._run_shapes(input_shape)
        files = {*map(str, modules), *map(str, Path(__file__).parent.rglob("*.py"))}
        code = [Path(file).read_bytes() for file in sorted(files)]
        identity = key(described, sizes, self.output, input_shape, code)
        found = find("shapes", identity)
        if found is not None:
            return {name: tuple(shape) for name, shape in json.loads(found[1]).items()}
        shapes = self._run_shapes(input_shape)
        keep("shapes", identity, json.dumps(shapes).encode())
        return shapes

    def _run_shapes(self, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for batch in PROBE_BATCHES:
            found = self._shapes_of(batch, input_shape)
            if not any(size and size % batch == 0 for shape in found.values() for size in shape):
                break  # nothing but the batch has this size
        return found

    def _shapes_of(self, batch: int, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {INPUT: tuple(input_shape)}

        def visit(node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
            value = node.op.shaped(*inputs)
            if value.dim() == 0 or value.shape[0] != batch:
                raise ValueError(f"node {node.name!r} ({node.op.kind}) does not keep the images of a batch apart")
            shapes[node.name] = tuple(value.shape[1:])
            return value

        reference = next(self.parameters(), torch.zeros(()))
        with shapes_only():
            example = torch.zeros(batch, *input_shape, dtype=reference.dtype, device=reference.device)
            self.evaluate(example, (), visit)
        return shapes

    def channel_axes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Which axis of every value holds its channels, the batch counted: neurons have a threshold for each of them.

        Images, and what a convolution makes of them, have their channels first, ``[B, C, H, W]``; a linear layer has
        them last, ``[B, N, C]``. Everything else moves them as it moves axes, or leaves them where its first input that
        has channels, as constants have not, has them.

        Args:
            shapes: of all values, without the batch (``shapes()``).
        """
        axes = {INPUT: 1}
        for node in self.nodes:
            first = next((name for name in node.inputs if axes[name]), node.inputs[0])
            axes[node.name] = node.op.channel_axis(axes[first], shapes[first], shapes[node.name])
        return {name: axis or 1 for name, axis in axes.items()}


@contextmanager
def shapes_only(mode: FakeTensorMode | None = None) -> Iterator[None]:
    """Inside, tensors have shapes and types but no values: whatever runs costs neither memory nor arithmetic.

    What is made in one ``mode`` can only be used in the same. Autocast is off: it would keep weights without values
    for the layers that run after it; hooks on all modules are not called, for want of values.
    """
    complaints = logging.getLogger("torch._subclasses.fake_tensor")  # a traceback for every shape that does not fit
    before, complaints.disabled = complaints.disabled, True
    try:
        with ExitStack() as inside:
            for device in filter(torch.is_autocast_enabled, ("cpu", "cuda", "mps")):
                inside.enter_context(torch.autocast(device, enabled=False))
            inside.enter_context(torch.no_grad())
            inside.enter_context(without_global_hooks())
            inside.enter_context(mode or FakeTensorMode(allow_non_fake_inputs=True))
            yield
    finally:
        complaints.disabled = before


@contextmanager
def without_global_hooks() -> Iterator[None]:
    """Inside, hooks that are registered on all modules, of any model, are not called."""
    before = [dict(table) for table in GLOBAL_HOOKS]
    for table in GLOBAL_HOOKS:
        table.clear()
    try:
        yield
    finally:
        for table, hooks in zip(GLOBAL_HOOKS, before, strict=True):
            table.update(hooks)


def schedule(nodes: Sequence[Node], keep: Iterable[str] = ()) -> list[tuple[Node, tuple[str, ...]]]:
    """Each node with the values that nobody reads after it, so that an executor can free them."""
    last: dict[str, Node] = {}
    for node in nodes:
        last[node.name] = node
        for name in node.inputs:
            last[name] = node
    kept = set(keep)
    done: dict[str, list[str]] = {node.name: [] for node in nodes}
    for name, node in last.items():
        if name not in kept:
            done[node.name].append(name)
    return [(node, tuple(done[node.name])) for node in nodes]


def prune(nodes: Iterable[Node], *outputs: str) -> tuple[Node, ...]:
    """Only the nodes that the outputs depend on."""
    needed, kept = {*outputs}, []
    for node in reversed(tuple(nodes)):
        if node.name in needed:
            needed.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def macs(node: Node, shapes: Mapping[str, Sequence[int]]) -> int:
    """Multiply-accumulates of one call on one image, given every value's shape without the batch (``shapes()``)."""
    return node.op.macs(shapes[node.name], *(shapes[name] for name in node.inputs))
