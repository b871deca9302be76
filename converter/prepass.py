"""COS and SRP: neurons that start again from what a pre-pass of the same image showed."""

from __future__ import annotations

from typing import Any

from seenn.errors import ConversionError
from seenn.graph import Node, OpGraph
from seenn.ops import DelayedReadout, IntegratingNeuron, PrepassIFNeuron


def with_prepass(neuron: IntegratingNeuron, *, rule: str, steps: int) -> PrepassIFNeuron:
    """The same neuron with a pre-pass.

    Raises:
        ConversionError: it is not a binary one for a ReLU or a QCFS activation.
    """
    arguments: dict[str, Any] = {**neuron.tensors(), **neuron.config()}
    if arguments.pop("signed", True) or arguments.pop("max_spikes") != 1:
        raise ConversionError(f"{rule} is for binary neurons (--neuron if), got {neuron.title}")
    return PrepassIFNeuron(**arguments, rule=rule, prepass=steps)


def delayed(graph: OpGraph, steps: int) -> OpGraph:
    """The graph whose output says nothing during the pre-pass."""
    name, taken = "readout", {node.name for node in graph}
    while name in taken:
        name += "_"
    return OpGraph([*graph, Node(name, DelayedReadout(after=steps), (graph.output,))], name)
