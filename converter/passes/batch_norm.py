"""Folding normalisation into the synapse before it, or into the one after it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import BatchNorm, ChannelAffine, Conv2d, Linear, Op, Synapse


def fold_batch_norm(graph: OpGraph, input_shape: Sequence[int]) -> OpGraph:
    """Removes every ``BatchNorm``, in its inference form; ``input_shape`` is ``(C, H, W)`` of one image.

    1. After a synapse that nobody else reads, and whose channels are those that it normalises, it becomes
       part of that synapse's weight and bias.
    2. Elsewhere it stays as a ``ChannelAffine``: still linear over time, and 1. of a later synapse is not
       disturbed by zero padding, which a shift folded forwards would be.
    """
    users, shapes = graph.users(), graph.shapes(input_shape)
    changes: dict[str, Op] = {}
    renamed: dict[str, str] = {}
    for node in graph:
        if not isinstance(node.op, BatchNorm):
            continue
        scale, shift = (t.detach().clone() for t in node.op.as_affine())
        (source,) = node.inputs
        before = None if source == INPUT else changes.get(source, graph[source].op)
        alone = source != INPUT and len(users[source]) == 1 and source != graph.output
        # A linear layer's channels are its last axis: on tokens [B, N, C], the normalised axis is another.
        if alone and (isinstance(before, Conv2d) or (isinstance(before, Linear) and len(shapes[source]) == 1)):
            changes[source] = _scaled(before, scale, shift)
            renamed[node.name] = source
        else:
            changes[node.name] = ChannelAffine(scale, shift)
    return rewire(graph, changes, renamed)


def rewire(graph: OpGraph, changes: dict[str, Op], renamed: dict[str, str]) -> OpGraph:
    """The graph with ops replaced, and nodes dropped whose value is now another node's (``renamed``)."""

    def follow(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    nodes = [
        Node(node.name, changes.get(node.name, node.op), tuple(map(follow, node.inputs)))
        for node in graph
        if node.name not in renamed
    ]
    return OpGraph(nodes, follow(graph.output))


def _scaled(op: Synapse, scale: Tensor, shift: Tensor) -> Synapse:
    weight = op.weight.detach() * scale.view(-1, *[1] * (op.weight.dim() - 1))
    bias = shift if op.bias is None else shift + scale * op.bias.detach()
    if isinstance(op, Linear):
        return Linear(weight, bias)
    assert isinstance(op, Conv2d)
    return Conv2d(weight, bias, **op.config())
