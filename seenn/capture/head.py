"""The softmax or sigmoid that many models end in: a network that adds up its scores leaves it out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seenn.core.graph import INPUT, Node, OpGraph, prune
from seenn.core.ops import Flatten, Pointwise, Reshape, Softmax, Take
from seenn.errors import UnsupportedError

LEFT_OUT = "the final %s is left out: the network returns logits"  # what the user reads
_OF_EACH = ("sigmoid", "logsigmoid")


def find_head(graph: OpGraph, input_shape: Sequence[int]) -> tuple[str, tuple[Node, ...]] | None:
    """The name and the nodes of a softmax over the scores, or of a sigmoid of each, that only the output reads.

    What only changes the layout, or takes some of the scores, may come after it.
    """
    users, name = graph.users(), graph.output
    while name != INPUT and len(users[name]) == (name != graph.output):
        node = graph[name]
        if isinstance(node.op, Pointwise) and node.op.function in _OF_EACH:
            return node.op.function, (node,)
        logarithm = [node] if isinstance(node.op, Pointwise) and node.op.function == "log" else []
        inner = graph[node.inputs[0]] if logarithm and node.inputs[0] != INPUT else node
        if isinstance(inner.op, Softmax):
            shape = graph.shapes(input_shape)[inner.name]
            alone = not logarithm or len(users[inner.name]) == 1
            found = ("log_softmax" if logarithm else "softmax"), (*logarithm, inner)
            return found if alone and shape[inner.op.axis - 1] == math.prod(shape) else None
        if not isinstance(node.op, Reshape | Flatten | Take):
            return None
        name = node.inputs[0]
    return None


def without_head(graph: OpGraph, input_shape: Sequence[int]) -> tuple[OpGraph, str | None, tuple[str, ...]]:
    """The graph without the function that it ends in, the function's name, and the names of its nodes.

    Raises:
        UnsupportedError: there is nothing before it.
    """
    if (found := find_head(graph, input_shape)) is None:
        return graph, None, ()
    name, head = found
    first, last = head[0].name, head[-1].inputs[0]
    if graph.output == first and last == INPUT:
        raise UnsupportedError(f"the model is nothing but a {name}: there is nothing to convert")
    nodes = [Node(node.name, node.op, tuple(last if read == first else read for read in node.inputs)) for node in graph]
    output = last if graph.output == first else graph.output
    return OpGraph(prune(nodes, output), output), name, tuple(node.name for node in head)
