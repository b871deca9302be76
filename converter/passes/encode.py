"""Spikes in front of every multiply-accumulate: where identity encoders stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import Activation, AdaptiveAvgPool2d, AvgPool2d, Identity, Mean, Op, Rearrangement, Scale, Synapse
from seenn.core.ops.base import Traffic


def encode_operands(graph: OpGraph, input_shape: Sequence[int]) -> OpGraph:
    """Puts an ``Identity`` in front of every operand that weights, or another value, multiply and that is not spikes.

    The first layers, which nothing but the image reaches, stay as they are: they are computed once an image. All
    readers of a value share one encoder, and readers of its parts too: it stands where the fewest neurons serve, before
    or behind the rearrangements and averages on the way, which keep spikes as spikes.

    Args:
        graph: canonical; its activations are taken to spike.
        input_shape: of one image.
    """
    shapes, kinds = graph.shapes(input_shape), _traffic(graph)
    neurons = _fewest_neurons(graph, shapes, kinds)
    spiking: dict[str, str] = {}  # value -> who carries it as spikes
    nodes: list[Node] = []
    for node in graph:
        carries = node.name in neurons and _carries(node.op)
        reads = carries or multiplies(node.op)
        inputs = tuple(spiking.get(name, name) if reads else name for name in node.inputs)
        nodes.append(Node(node.name, node.op, inputs))
        if carries and node.inputs[0] in spiking:
            spiking[node.name] = node.name
        elif neurons.get(node.name) == math.prod(shapes[node.name]):
            encoder = f"{node.name}.encoder"
            nodes.append(Node(encoder, Identity(), (node.name,)))
            spiking[node.name] = encoder
    return OpGraph(nodes, graph.output)


def multiplies(op: Op) -> bool:
    """Whether an op has multiply-accumulates, whose operands are to be spikes."""
    return isinstance(op, Synapse) or op.bilinear


def _carries(op: Op) -> bool:
    """Whether spikes stay integers of one unit through it."""
    return isinstance(op, Rearrangement | AvgPool2d | AdaptiveAvgPool2d | Mean | Scale)


def _traffic(graph: OpGraph) -> dict[str, Traffic]:
    """What will flow out of every node. Constant is what no weights have met: the image, and constants."""
    kinds: dict[str, Traffic] = {INPUT: "constant"}
    for node in graph:
        inputs = [kinds[name] for name in node.inputs]
        if isinstance(node.op, Activation):
            kinds[node.name] = "spikes"
        elif set(inputs) == {"constant"} and not multiplies(node.op):
            kinds[node.name] = "constant"
        else:
            kinds[node.name] = node.op.traffic(inputs)
    return kinds


def _fewest_neurons(
    graph: OpGraph, shapes: Mapping[str, Sequence[int]], kinds: Mapping[str, Traffic]
) -> dict[str, int]:
    """For each analog value that has to come as spikes, how many neurons carry it: itself, or all that is made of it.

    The larger of both is never taken, so that a value as large as itself is where an encoder stands, unless one
    stands before it.
    """
    users, neurons = graph.users(), dict[str, int]()
    for node in reversed(graph.nodes):
        if kinds[node.name] != "analog":
            continue
        own, readers = math.prod(shapes[node.name]), users[node.name]
        if any(multiplies(reader.op) for reader in readers):
            neurons[node.name] = own
        elif parts := sum(neurons.get(reader.name, 0) for reader in readers if _carries(reader.op)):
            neurons[node.name] = min(own, parts)
    return neurons
