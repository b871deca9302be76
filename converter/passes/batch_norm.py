"""Folding normalisation, and what else scales and shifts each channel, into the synapse before it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import BatchNorm, ChannelAffine, Conv2d, ElementwiseAffine, Linear, Op, Synapse


def fold_batch_norm(graph: OpGraph, input_shape: Sequence[int]) -> OpGraph:
    """Removes every ``BatchNorm``, in its inference form; ``input_shape`` is ``(C, H, W)`` of one image.

    Constants of the model that scale or shift each channel (layer scale, normalisation written out) count as one.

    1. After a synapse that nobody else reads, and whose channels are those that it normalises, it becomes
       part of that synapse's weight and bias.
    2. Elsewhere it stays as a ``ChannelAffine``: still linear over time, and 1. of a later synapse is not
       disturbed by zero padding, which a shift folded forwards would be.
    """
    users, shapes = graph.users(), graph.shapes(input_shape)
    changes: dict[str, Op] = {}
    renamed: dict[str, str] = {}
    for node in graph:
        source = node.inputs[0]
        if (affine := _per_channel(node.op, shapes.get(source, input_shape), shapes[node.name])) is None:
            continue
        alone = source != INPUT and len(users[source]) == 1 and source != graph.output
        synapse = renamed.get(source, source)
        before = changes.get(synapse, graph[synapse].op) if alone else None
        # A linear layer's channels are its last axis: on tokens [B, N, C], the normalised axis is another.
        if isinstance(before, Conv2d) or (isinstance(before, Linear) and len(shapes[source]) == 1):
            changes[synapse] = _scaled(before, *affine)
            renamed[node.name] = synapse
        else:
            changes[node.name] = ChannelAffine(*affine)
    return rewire(graph, changes, renamed)


def _per_channel(op: Op, before: Sequence[int], after: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """``(scale, shift)`` ``[C]`` of an op that is no more than that between values of these shapes; None for others."""
    if isinstance(op, BatchNorm):
        scale, shift = op.as_affine()
        return scale.detach().clone(), shift.detach().clone()
    if not isinstance(op, ElementwiseAffine) or tuple(before) != tuple(after):
        return None
    like = next(t.detach() for t in (op.weight, op.bias) if t is not None)
    scale = like.new_ones(()) if op.weight is None else op.weight.detach()
    shift = like.new_zeros(()) if op.bias is None else op.bias.detach()
    aligned = [t.reshape((1,) * (len(after) - t.dim()) + t.shape) for t in (scale, shift)]
    if any(t.numel() != len(t) for t in aligned):
        return None
    scale, shift = (t.flatten().expand(after[0]).clone() for t in aligned)
    return scale, shift


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
