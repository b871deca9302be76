"""From the canonical ANN graph to the spiking network: one neuron a site, memory where time matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seenn.core.graph import OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Activation, CumulativeDifference, IntegratingNeuron, Op, StatelessOp
from seenn.errors import ConversionError, UnsupportedError


def sites_of(graph: OpGraph) -> tuple[str, ...]:
    """The activation call sites of an ANN graph, in order; none in a graph of analog islands alone.

    Raises:
        UnsupportedError: there is neither an activation nor an island.
    """
    sites = tuple(node.name for node in graph if isinstance(node.op, Activation))
    if not sites and not any(node.op.island for node in graph):
        raise UnsupportedError(
            "the model has no ReLU activation, so nothing in it can become a neuron: convert a model with nn.ReLU, "
            "nn.ReLU6, nn.LeakyReLU or nn.PReLU"
        )
    return sites


def place_neurons(
    graph: OpGraph, neurons: Mapping[str, IntegratingNeuron], input_shape: Sequence[int]
) -> SpikingNetwork:
    """Puts a neuron at every site and a ``CumulativeDifference`` around every other non-affine op.

    Raises:
        ConversionError: a site without a neuron, or a neuron without a site.
        UnsupportedError: the graph has neither an activation nor an analog island.
    """
    sites = sites_of(graph)
    if missing := [site for site in sites if site not in neurons]:
        raise ConversionError(f"no neuron for the sites {', '.join(missing)}: calibrate this same graph first")
    if extra := sorted(set(neurons) - set(sites)):
        raise ConversionError(f"neurons for {', '.join(extra)}, which are not sites of this graph")
    changes: dict[str, Op] = dict(neurons)
    for node in graph:
        if node.name not in changes and isinstance(node.op, StatelessOp) and not node.op.affine:
            changes[node.name] = CumulativeDifference(node.op)
    return SpikingNetwork(graph.replace(changes), input_shape)
