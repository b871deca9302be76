"""The softmax or sigmoid that many models end in: a network that adds up its scores leaves it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph, prune
from seenn.core.ops import ElementwiseAffine, Flatten, Linear, Op, Pointwise, Reshape, Slice, Softmax, Take
from seenn.errors import UnsupportedError

LEFT_OUT = "the final %s is left out: the network returns logits"  # what the user reads
_OF_EACH = ("sigmoid", "logsigmoid")
LONGEST = 16  # nodes that a function of the logits may be written in


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


def _written_out(graph: OpGraph, input_shape: Sequence[int]) -> tuple[list[Node], int] | None:
    """The σ of one logit of which the output is ``[1 − σ, σ]``, σ or 1 − σ, however written; and its place, from 0.

    A softmax of two scores is a σ of their difference, where the output is one of its two.
    """
    shapes = graph.shapes(input_shape)
    scores = math.prod(shapes[graph.output])
    cone, left = {graph.output}, [graph.output]
    sigmoids: list[Node] = []
    while left:
        node = graph[left.pop()]
        of_two = scores == 1 and isinstance(node.op, Softmax) and math.prod(shapes[node.name]) == 2
        if of_two or (isinstance(node.op, Pointwise) and node.op.function == "sigmoid"):
            sigmoids.append(node)
        elif not node.op.affine or INPUT in node.inputs:
            return None
        else:
            left += {*node.inputs} - cone
            cone.update(node.inputs)
    kinds = {(node.inputs[0], type(node.op)) for node in sigmoids}
    if len(kinds) != 1 or INPUT in {logit for logit, _ in kinds} or scores > 2:
        return None
    one = sigmoids[0]
    logits = math.prod(shapes[one.name])
    if logits != 1 and not isinstance(one.op, Softmax):
        return None
    like = next(graph.parameters(), torch.zeros(()))
    both = torch.tensor([[0.0], [1.0]]) if logits == 1 else torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    both = both.to(like).view(2, *shapes[one.name])  # an affine map is known by two values
    values = {node.name: both for node in sigmoids}
    with torch.no_grad():
        for node in graph:
            if node.name in cone - values.keys():
                values[node.name] = node.op(*(values[read] for read in node.inputs))
    found = values[graph.output].reshape(2, scores)
    for yes in (1, 0):
        if torch.equal(found, torch.eye(2).to(found).roll(1 - yes, 1)[:, 2 - scores :]):
            return sigmoids, yes
    return None


def _by_values(graph: OpGraph, input_shape: Sequence[int]) -> tuple[str, str, tuple[str, ...]] | None:
    """The function of the logits that the last nodes compute together, whatever they are: its name, the node of the
    logits, and the nodes. Tried on random logits; a factor behind it, such as 100 for percent, makes no difference."""
    shapes = graph.shapes(input_shape)
    scores, behind = math.prod(shapes[graph.output]), [graph[graph.output]]
    random = torch.randn(8, scores, generator=torch.Generator().manual_seed(0))
    best: tuple[str, str, tuple[str, ...]] | None = None  # the one with the most nodes
    for node in reversed([node for node in graph if node.name != graph.output][-LONGEST:]):
        names = {one.name for one in behind}
        if not any(node.name in one.inputs for one in behind):
            continue
        open_ends = {read for one in behind for read in one.inputs} - names
        if open_ends == {node.name} and math.prod(shapes[node.name]) == scores:
            tail = [Node(n.name, n.op, tuple(INPUT if r == node.name else r for r in n.inputs)) for n in behind[::-1]]
            with torch.no_grad():
                found = OpGraph(tail, graph.output)(random.view(8, *shapes[node.name])).reshape(8, scores)
            for name, function in _FUNCTIONS.items():
                if scores > 1 or name in _OF_EACH:
                    expected = function(random)
                    gain = float((found * expected).sum() / expected.square().sum()) if "log" not in name else 1.0
                    if gain > 0 and torch.allclose(found, gain * expected, rtol=1e-4, atol=1e-6 * gain):
                        best = name, node.name, tuple(names)
        behind.append(node)
    return best


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda z: z.softmax(1),
    "log_softmax": lambda z: z.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
}


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
    single = math.prod(graph.shapes(input_shape)[graph.output]) == 1
    if (written := _written_out(graph, input_shape)) is not None:
        sigmoids, yes = written
        last, left_out = sigmoids[0].inputs[0], tuple(node.name for node in sigmoids)
        scores = OpGraph(prune(graph, last), last)
        count = math.prod(graph.shapes(input_shape)[last])
        if graph.shapes(input_shape)[last] != (count,):
            scores = followed(scores, "logit", Reshape(shape=(count,)))
        if not single:
            return two_classes(scores, yes), "softmax", left_out
        signs = torch.tensor([[-1.0, 1.0]] if count == 2 else [[1.0]]) * (1 if yes else -1)
        if count == 2 or not yes:
            scores = followed(scores, "score", Linear(signs.to(next(graph.parameters(), torch.zeros(())))))
        return scores, "sigmoid", left_out
    found = find_head(graph, input_shape)
    if found is None and (spelled := _by_values(graph, input_shape)) is not None:
        name, last, left_out = spelled
        scores = OpGraph(prune(graph, last), last)
        count = math.prod(graph.shapes(input_shape)[last])
        if graph.shapes(input_shape)[last] != (count,):
            scores = followed(scores, "logits", Reshape(shape=(count,)))
        return scores, name, left_out
    if found is None or (single and found[0].endswith("softmax")):
        return graph, None, ()  # one of several probabilities has no logit
    name, head = found
    first, last = head[0].name, head[-1].inputs[0]
    if graph.output == first and last == INPUT:
        raise UnsupportedError(f"the model is nothing but a {name}: there is nothing to convert")
    nodes = [Node(node.name, node.op, tuple(last if read == first else read for read in node.inputs)) for node in graph]
    output = last if graph.output == first else graph.output
    return OpGraph(prune(nodes, output), output), name, tuple(node.name for node in head)
