"""What a conversion would do to a model, node by node, before any data is needed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from converter.convert import refuse_neurons
from converter.passes import normalise
from converter.place import sites_of
from converter.trace import trace_model
from seenn.graph import OpGraph, macs
from seenn.ops import Activation, Synapse


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One call of the source model and its ``fate``.

    ``spiking``: becomes neurons. ``synapse``: the weights that spikes travel through. ``folded``: becomes part
    of the synapse before. ``linear``: acts on every step's current. ``cumulative``: not linear, acts on
    running sums; counted as analog.
    """

    node: str
    op: str
    shape: tuple[int, ...]
    fate: str
    macs: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All nodes of a convertible model, and their totals."""

    nodes: tuple[NodeReport, ...]
    neurons: int  # sites that become neurons
    parameters: int
    macs: int  # per image

    def to_json(self) -> dict[str, Any]:
        """For ``seenn inspect --json``."""
        return {**asdict(self), "convertible": True}


def inspect_model(model: nn.Module, input_shape: Sequence[int]) -> Inspection:
    """Traces and normalises a model and says what becomes of each node.

    Raises:
        UnsupportedError: it cannot be converted; lists every call in the way, or says that it has no ReLU.
        ModelError: it holds neurons already.
    """
    refuse_neurons(model)
    graph = trace_model(copy.deepcopy(model).cpu().eval(), torch.zeros(2, *input_shape))
    after = normalise(graph, input_shape)
    kept = {node.name for node in after}
    shapes = graph.shapes(input_shape)
    nodes = tuple(
        NodeReport(
            node=node.name,
            op=node.op.kind,
            shape=shapes[node.name],
            fate=_fate(graph, node.name, kept),
            macs=macs(node, shapes[node.name]),
            parameters=sum(t.numel() for t in node.op.tensors().values()),
        )
        for node in graph
    )
    return Inspection(
        nodes=nodes,
        neurons=len(sites_of(after)),
        parameters=sum(p.numel() for p in model.parameters()),
        macs=sum(node.macs for node in nodes),
    )


def _fate(graph: OpGraph, name: str, kept: set[str]) -> str:
    op = graph[name].op
    if name not in kept:
        return "folded"
    if isinstance(op, Activation):
        return "spiking"
    if isinstance(op, Synapse):
        return "synapse"
    return "linear" if op.affine else "cumulative"
