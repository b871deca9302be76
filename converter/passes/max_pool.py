"""Pooling currents instead of spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import Activation, AdaptiveMaxPool2d, BorderPad, MaxPool2d


def move_max_pool(graph: OpGraph) -> OpGraph:
    """Swaps ``max_pool(activation(x))`` into ``activation(max_pool(x))``, exactly equal for monotone activations.

    The pool then sees the currents before the neuron, and the neuron after it restores spikes. An
    activation that others read as well stays where it is.
    """
    while (moved := _move_once(graph)) is not graph:  # a pool after a pool, or after two activations
        graph = moved
    return graph


def _commutes(node: Node, users: Mapping[str, Sequence[Node]]) -> bool:
    """A maximum does; so does a border below every value, which only maxima read: it is the same on both sides."""
    lowest = isinstance(node.op, BorderPad) and node.op.mode == "lowest"
    if lowest and users[node.name]:
        return all(isinstance(user.op, MaxPool2d | AdaptiveMaxPool2d) for user in users[node.name])
    return isinstance(node.op, MaxPool2d | AdaptiveMaxPool2d)


def _move_once(graph: OpGraph) -> OpGraph:
    users = graph.users()
    swapped: dict[str, tuple[Node, Node]] = {}  # activation -> (its new first half, its new second half)
    for node in graph:
        source = node.inputs[0]
        if source != INPUT and _commutes(node, users):
            before = graph[source]
            movable = isinstance(before.op, Activation) and before.op.monotone
            if movable and len(users[source]) == 1 and source != graph.output:
                pool = Node(node.name, node.op, before.inputs)
                swapped[before.name] = (pool, Node(before.name, before.op, (node.name,)))
    if not swapped:
        return graph
    pools = {pool.name: activation.name for pool, activation in swapped.values()}
    nodes: list[Node] = []
    for node in graph:
        if node.name in swapped:
            nodes.extend(swapped[node.name])
        elif node.name not in pools:
            nodes.append(Node(node.name, node.op, tuple(pools.get(name, name) for name in node.inputs)))
    return OpGraph(nodes, pools.get(graph.output, graph.output))
