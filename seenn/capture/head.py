"""The softmax or sigmoid that many models end in: a network that adds up its scores leaves it out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph, prune
from seenn.core.ops import ElementwiseAffine, Flatten, Linear, Op, Pointwise, Reshape, Slice, Softmax, Take
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
        if not isinstance(node.op, Reshape | Flatten | Slice | Take):
            return None
        name = node.inputs[0]
    return None


def _written_out(graph: OpGraph, input_shape: Sequence[int]) -> tuple[str, int, tuple[str, ...]] | None:
    """The logit whose ``[1 − σ, σ]`` is the output, however written; the place of σ in it, and its nodes."""
    cone, left = {graph.output}, [graph.output]
    sigmoids: list[Node] = []
    while left:
        node = graph[left.pop()]
        if isinstance(node.op, Pointwise) and node.op.function == "sigmoid":
            sigmoids.append(node)
        elif not node.op.affine or INPUT in node.inputs:
            return None
        else:
            left += {*node.inputs} - cone
            cone.update(node.inputs)
    logits = {node.inputs[0] for node in sigmoids}
    if len(logits) != 1 or INPUT in logits:
        return None
    (logit,) = logits
    shapes = graph.shapes(input_shape)
    if math.prod(shapes[graph.output]) != 2 or math.prod(shapes[logit]) != 1:
        return None
    like = next(graph.parameters(), torch.zeros(()))
    both = like.new_tensor([0.0, 1.0]).view(2, *shapes[logit])  # an affine map is known by two values
    values = {node.name: both for node in sigmoids}
    with torch.no_grad():
        for node in graph:
            if node.name in cone - values.keys():
                values[node.name] = node.op(*(values[read] for read in node.inputs))
    found = values[graph.output].flatten(1)
    for yes in (1, 0):
        if torch.equal(found, torch.eye(2).to(found).roll(1 - yes, 1)):
            return logit, yes, tuple(node.name for node in sigmoids)
    return None


def are_probabilities(scores: Tensor) -> bool:
    """Whether each row of ``[B, K]``, K of two or more, is what a softmax gives: nowhere negative, with the sum 1."""
    if scores.dim() != 2 or scores.shape[1] < 2:
        return False
    return bool((scores >= 0).all()) and bool(((scores.sum(1) - 1).abs() < 1e-3).all())


def two_classes(graph: OpGraph, yes: int = 1) -> OpGraph:
    """The scores −z/2 and z/2 of two classes, of which ``yes`` is the second's place, from one logit z ``[B, 1]``."""
    last, signs = graph[graph.output].op, torch.tensor([-0.5, 0.5] if yes else [0.5, -0.5])
    if isinstance(last, Linear):
        weight, bias = last.weight.detach(), last.bias
        signs = signs.to(weight)
        bias = None if bias is None else bias.detach() * signs
        return graph.replace({graph.output: Linear(weight * signs[:, None], bias)})
    like = next(graph.parameters(), torch.zeros(()))
    return followed(graph, "two_classes", ElementwiseAffine(signs.to(like)))


def followed(graph: OpGraph, name: str, op: Op) -> OpGraph:
    """The graph with one more op behind its output."""
    return OpGraph([*graph, Node(name, op, (graph.output,))], name)


def without_head(graph: OpGraph, input_shape: Sequence[int]) -> tuple[OpGraph, str | None, tuple[str, ...]]:
    """The graph without the function that it ends in, the function's name, and the names of its nodes.

    Raises:
        UnsupportedError: there is nothing before it.
    """
    if (written := _written_out(graph, input_shape)) is not None:
        last, yes, sigmoids = written
        scores = OpGraph(prune(graph, last), last)
        if graph.shapes(input_shape)[last] != (1,):
            scores = followed(scores, "logit", Reshape(shape=(1,)))
        return two_classes(scores, yes), "softmax", sigmoids
    if (found := find_head(graph, input_shape)) is None:
        return graph, None, ()
    name, head = found
    first, last = head[0].name, head[-1].inputs[0]
    if graph.output == first and last == INPUT:
        raise UnsupportedError(f"the model is nothing but a {name}: there is nothing to convert")
    nodes = [Node(node.name, node.op, tuple(last if read == first else read for read in node.inputs)) for node in graph]
    output = last if graph.output == first else graph.output
    return OpGraph(prune(nodes, output), output), name, tuple(node.name for node in head)
