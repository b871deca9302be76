"""A graph as JSON and tensors, and back: what a checkpoint holds, and all that it may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph, schedule
from seenn.core.ops import make_op
from seenn.core.ops.base import op_class
from seenn.errors import CheckpointError

_MOST_NODES = 100_000
#: Most bytes that the values of one image may take at once in a step. VGG-16 takes 0.5 GiB at 1024 px, ViT-L/16, whose
#: attention is quadratic in the pixels, 2 GiB.
MEMORY_BUDGET = 4 << 30
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def graph_to_json(graph: OpGraph, input_shape: Sequence[int], tensors: dict[str, Tensor], prefix: str = "") -> Any:
    """Input shape, output, heads where there are some, and per node name, op kind, attributes and inputs, as JSON.

    Adds the ops' tensors to ``tensors``, each as ``<prefix><node>.<tensor>``.

    Raises:
        ValueError: a tensor of that name is there already.
        CheckpointError: the tensors are not finite or of several types, so that they could not be read back.
    """
    own = {f"{prefix}{node.name}.{name}": tensor for node in graph for name, tensor in node.op.tensors().items()}
    if taken := sorted(own.keys() & tensors.keys()):
        raise ValueError(f"two graphs have tensors of the same name: {', '.join(taken[:8])}")
    check_tensors(own)
    tensors |= {name: tensor.detach().cpu().contiguous().clone() for name, tensor in own.items()}
    nodes = [
        {"name": node.name, "op": node.op.kind, "config": node.op.config(), "inputs": list(node.inputs)}
        for node in graph
    ]
    heads = {"heads": list(graph.heads)} if graph.heads else {}
    return {"input_shape": list(input_shape), "output": graph.output, **heads, "nodes": nodes}


def graph_from_json(description: Any, tensors: dict[str, Tensor], prefix: str = "") -> tuple[OpGraph, tuple[int, ...]]:
    """The graph that ``graph_to_json`` described, and its input shape; takes its tensors out of ``tensors``.

    Raises:
        CheckpointError: anything that the closed op set does not allow, or that does not fit together.
    """
    if not isinstance(description, dict) or not isinstance(description.get("nodes"), list):
        raise CheckpointError("the graph must be an object with a list of nodes")
    if len(description["nodes"]) > _MOST_NODES:
        raise CheckpointError(f"the graph has {len(description['nodes'])} nodes; expected at most {_MOST_NODES}")
    own = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    check_tensors(own)
    nodes = [_node(item, own) for item in description["nodes"]]
    if own:
        raise CheckpointError(
            f"{len(own)} tensors belong to no node ({', '.join(sorted(own)[:8])}): write the file again"
        )
    shape = description.get("input_shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 4
        or not all(type(n) is int and 0 < n < 1 << 20 for n in shape)
    ):
        raise CheckpointError(f"input_shape must be 1 to 4 positive integers, got {shape!r}")
    heads = description.get("heads", [])
    if not isinstance(heads, list) or not all(isinstance(name, str) for name in heads):
        raise CheckpointError(f"heads must be a list of names of nodes, got {heads!r:.80}")
    try:
        graph = OpGraph(nodes, str(description.get("output")), heads)
    except ValueError as error:
        raise CheckpointError(f"{error}: copy the file again") from error
    _check_shapes(graph, shape)
    return graph.eval(), tuple(shape)


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Finite weights of one floating-point type: what a network can compute with."""
    if foreign := sorted(f"{name} ({t.dtype})" for name, t in tensors.items() if t.dtype not in _DTYPES):
        raise CheckpointError(
            f"{len(foreign)} tensors are not floating-point weights ({', '.join(foreign[:8])}): write the file again"
        )
    if len(types := sorted({str(t.dtype) for t in tensors.values()})) > 1:
        raise CheckpointError(f"the tensors are of several types, {' and '.join(types)}: cast the network to one")
    if bad := sorted(name for name, t in tensors.items() if not bool(t.isfinite().all())):
        names = ", ".join(bad[:8])
        raise CheckpointError(f"{len(bad)} tensors hold NaN or infinite values: {names}; train or convert it again")


def _node(item: Any, unused: dict[str, Tensor]) -> Node:
    if not isinstance(item, dict):
        raise CheckpointError(f"a node must be an object, got {type(item).__name__}")
    name, kind, inputs, config = (item.get(key) for key in ("name", "op", "inputs", "config"))
    if not isinstance(name, str) or not 0 < len(name) <= 512:
        raise CheckpointError(f"a node's name must be a string of 1 to 512 characters, got {name!r}")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise CheckpointError(f"node {name!r} must name an op and give its attributes")
    if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
        raise CheckpointError(f"node {name!r} must list the names of its inputs")
    try:
        keys = {tensor: f"{name}.{tensor}" for tensor in op_class(kind).tensor_names}
        found = {tensor: unused.pop(key) for tensor, key in keys.items() if key in unused}
        return Node(name, make_op(kind, config, found), tuple(inputs))
    except CheckpointError as error:
        raise CheckpointError(f"node {name!r}: {error}") from error


def _check_shapes(graph: OpGraph, input_shape: Sequence[int]) -> None:
    """Runs shapes only (no memory, no arithmetic): a graph that does not fit together is refused here."""
    try:
        shapes = graph.shapes(input_shape, kept=True)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(f"the graph's shapes do not fit together: {reason[0] if reason else error!r}") from error
    _check_memory(graph, shapes)
    if len(shapes[graph.output]) != 1:
        raise CheckpointError(f"the output must be one score per class, got shape {list(shapes[graph.output])}")
    for head in graph.heads:
        if shapes[head] != shapes[graph.output]:
            raise CheckpointError(
                f"the head {head!r} gives {list(shapes[head])}, expected the output's {list(shapes[graph.output])}"
            )


def _check_memory(graph: OpGraph, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuses a graph whose values, those that are alive at once, need more memory than ``MEMORY_BUDGET``."""
    width = next((p.element_size() for p in graph.parameters()), torch.float32.itemsize)
    sizes = {name: width * math.prod(shape) for name, shape in shapes.items()}
    alive = 0
    for name, done in [(INPUT, ()), *((node.name, done) for node, done in schedule(graph.nodes, (graph.output,)))]:
        alive += sizes[name]
        if alive > MEMORY_BUDGET:
            raise CheckpointError(
                f"node {name!r}, {list(shapes[name])}, brings the values of one image to {alive:,} bytes; "
                f"expected at most {MEMORY_BUDGET:,}"
            )
        alive -= sum(sizes[read] for read in done)
