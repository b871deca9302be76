"""A converted network in differential coding."""

from __future__ import annotations

from seenn.core.graph import Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import CumulativeDifference, IncrementalProduct, IntegratingNeuron, Op, Quantiser
from seenn.core.ops.differential import (
    DifferentialFunction,
    DifferentialNeuron,
    DifferentialProduct,
    DifferentialReadout,
)
from seenn.errors import UnsupportedError


def differential(network: SpikingNetwork) -> SpikingNetwork:
    """The same network, whose spikes carry how means change: see ``seenn.core.ops.differential``.

    Raises:
        UnsupportedError: activations that are quantised: where they jump, a mean that hardly moves takes many spikes.
    """
    graph, changes = network.graph, dict[str, Op]()
    if jumps := [node.name for node in graph if isinstance(node.op.analog, Quantiser)]:
        raise UnsupportedError(
            f"{len(jumps)} activations are quantised ({', '.join(jumps[:3])}), whose jumps differential coding follows "
            "with many spikes: convert with --coding rate"
        )
    for node in graph:
        if isinstance(node.op, IntegratingNeuron):
            changes[node.name] = DifferentialNeuron.of(node.op)
        elif isinstance(node.op, CumulativeDifference | IncrementalProduct) and node.name not in network.prefix:
            kind = DifferentialProduct if isinstance(node.op, IncrementalProduct) else DifferentialFunction
            changes[node.name] = kind(node.op.op)
    output = f"{graph.output}.rate"
    nodes = [Node(node.name, changes.get(node.name, node.op), node.inputs) for node in graph]
    nodes.append(Node(output, DifferentialReadout(), (graph.output,)))
    return SpikingNetwork(OpGraph(nodes, output), network.input_shape)
