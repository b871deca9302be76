"""Where a step can be left: neurons that all later values depend on, and on nothing else before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seenn.core.graph import INPUT, OpGraph, macs, prune
from seenn.core.network import SpikingNetwork
from seenn.errors import UnsupportedError

_LEAST = 0.02  # of a step's work: an exit before it has seen next to nothing


@dataclass(frozen=True)
class Cut:
    """A neuron node at which a step falls in two.

    Attributes:
        name: of the node.
        cost: the share of a step's multiply-accumulates up to it.
    """

    name: str
    cost: float


def cuts(network: SpikingNetwork) -> list[Cut]:
    """Every one but the output, in order. What the image alone determines may be read on both sides of it."""
    graph, prefix = network.graph, network.prefix
    body = [node for node in graph if node.name not in prefix]
    shapes = {INPUT: network.input_shape, **network.shapes}
    work = {node.name: macs(node, shapes) for node in body}
    needed = {node.name for node in prune(body, graph.output)}
    found = []
    for node in body:
        if not node.op.fires or node.name == graph.output or node.name not in needed:
            continue
        before = {own.name for own in prune(body, node.name)}
        if all(name == node.name or name not in before for n in body if n.name in needed - before for name in n.inputs):
            done = sum(work[name] for name in before)
            found.append(Cut(node.name, done / max(1, sum(work[name] for name in needed))))
    return found


def read_by(graph: OpGraph, head: str) -> str:
    """The neurons, or the input, that a head stands behind."""
    while head != INPUT and not graph[head].op.fires:
        head = graph[head].inputs[0]
    return head


def choose_cuts(network: SpikingNetwork, at: Sequence[str] | None, heads: int) -> list[Cut]:
    """The cuts named ``at``, in order; None: at most so many, spread over the work of a step.

    The work is divided into equal parts, and each part's end gets the nearest cut, if one is nearer than half a part:
    cuts that lie close together, or close to the end, save no more than one of them. One there is always.

    Raises:
        UnsupportedError: the graph has none, or fewer than are asked for.
        ValueError: a name that is not one of them.
    """
    possible = cuts(network)
    if at is not None:
        known = {cut.name: cut for cut in possible}
        if unknown := [name for name in at if name not in known]:
            choices = ", ".join(known) or "none: this network has no cut"
            raise ValueError(f"no head can be put at {', '.join(unknown)}; choose from {choices}")
        return [cut for cut in possible if cut.name in at]
    possible = [cut for cut in possible if cut.cost >= _LEAST]
    if not possible:
        raise UnsupportedError(
            "this network has no cut: no neurons that everything behind them depends on alone, so no place for a head; "
            "use exits in time, with seenn calibrate-exit"
        )
    part, chosen = 1 / (heads + 1), []
    for end in (number * part for number in range(1, heads + 1)):
        nearest = min(possible, key=lambda cut: abs(cut.cost - end))
        if abs(nearest.cost - end) <= part / 2:
            chosen.append(nearest)
    return list(dict.fromkeys(chosen)) or possible[:1]
