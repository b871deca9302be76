"""What a conversion would do to a model, node by node, before any data is needed."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from converter.conversion import place_neurons, refuse_neurons, sites_of
from converter.passes import normalise
from converter.trace import translate_model
from seenn.analysis.synops import dense_cost
from seenn.capture import Offender, Translation, Unsupported
from seenn.core.graph import Node, OpGraph, macs
from seenn.core.ops import Activation, IFNeuron, Synapse
from seenn.errors import UnsupportedError


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One call of the source model and its ``fate``.

    ``spiking``: becomes neurons. ``synapse``: the weights that spikes travel through. ``folded``: becomes part
    of the synapse before. ``linear``: acts on every step's current. ``analog``: not linear, acts on running means
    and stays analog. ``unsupported``: stands in the way.
    """

    node: str
    op: str
    shape: tuple[int, ...]
    fate: str
    macs: int
    parameters: int
    neurons: int = 0


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All nodes of a model, their totals, and everything that stands in the way of its conversion.

    Attributes:
        nodes: in the order of the calls.
        problems: with the reason and a fix each; none where the model can be converted as asked.
        notes: what is unusual about the result, for people.
        analog_islands: whether calls that can only stay analog were allowed.
        sites: activation call sites that become neurons.
        neurons: neurons at all sites together, for one image.
        parameters: of the model.
        macs: multiply-accumulates of the ANN, per image.
        macs_once: of them, what the spiking network does once an image: its first layers.
        macs_per_step: and in every step: what analog values reach.
    """

    nodes: tuple[NodeReport, ...]
    problems: tuple[Offender, ...]
    notes: tuple[str, ...]
    analog_islands: bool
    sites: int
    neurons: int
    parameters: int
    macs: int
    macs_once: int
    macs_per_step: int

    @property
    def convertible(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.problems

    @property
    def analog_share(self) -> float:
        """The part of the multiply-accumulates that spikes do not replace, 0 to 1."""
        return (self.macs_once + self.macs_per_step) / max(1, self.macs)

    def to_json(self) -> dict[str, Any]:
        """For ``seenn inspect --json``."""
        return {**asdict(self), "analog_share": self.analog_share, "convertible": self.convertible}


def inspect_model(model: nn.Module, input_shape: Sequence[int], *, analog_islands: bool = False) -> Inspection:
    """Traces and normalises a model and says what becomes of each node, and all that stands in the way.

    Raises:
        UnsupportedError: it cannot be traced at all.
        ModelError: it holds neurons already.
    """
    refuse_neurons(model)
    source = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    found = translate_model(source, torch.zeros(2, *input_shape))
    graph, shapes = found.graph, found.graph.shapes(input_shape)
    after = normalise(graph, input_shape)
    kept = after.shapes(input_shape)
    nodes = tuple(
        NodeReport(
            node=node.name,
            op=node.op.title,
            shape=shapes[node.name],
            fate=_fate(node, kept),
            macs=macs(node, shapes),
            parameters=sum(t.numel() for t in node.op.tensors().values()),
            neurons=math.prod(kept[node.name]) if isinstance(node.op, Activation) else 0,
        )
        for node in graph
    )
    problems, notes = _problems(model, found, shapes[graph.output], analog_islands)
    sites = [node for node in nodes if node.fate == "spiking"]
    cost = _cost(after, input_shape)
    return Inspection(
        nodes=nodes,
        problems=problems,
        notes=notes,
        analog_islands=analog_islands,
        sites=len(sites),
        neurons=sum(site.neurons for site in sites),
        parameters=sum(p.numel() for p in model.parameters()),
        macs=sum(node.macs for node in nodes),
        macs_once=cost[0],
        macs_per_step=cost[1],
    )


def _problems(
    model: nn.Module, found: Translation, output: tuple[int, ...], analog_islands: bool
) -> tuple[tuple[Offender, ...], tuple[str, ...]]:
    problems = list(found.refused(analog_islands=analog_islands))
    notes = []
    name = type(model).__name__
    if len(output) != 1 and not problems:
        returned = ", ".join(map(str, ("B", *output)))
        problems.append(
            Offender("output", name, f"returns [{returned}]", "return one score per class, [B, K]: cut off the rest")
        )
    try:
        if not sites_of(found.graph):
            notes.append("0 spiking sites: nothing in this model can spike, all of it would stay analog")
    except UnsupportedError as error:
        if not problems:
            reason, fix = str(error).split(": ", 1)
            problems.append(Offender(name, "model", reason, fix))
    return tuple(problems), tuple(notes)


def _cost(graph: OpGraph, input_shape: Sequence[int]) -> tuple[int, int]:
    """Multiply-accumulates once an image and in every step; what is unsupported counts as analog."""
    sites = {node.name: IFNeuron() for node in graph if isinstance(node.op, Activation)}
    if not sites and not any(node.op.island for node in graph):
        return 0, 0
    cost = dense_cost(place_neurons(graph, sites, input_shape))
    return cost.once, cost.per_step


def _fate(node: Node, kept: Collection[str]) -> str:
    op = node.op
    if isinstance(op, Unsupported):
        return "unsupported"
    if node.name not in kept:
        return "folded"
    if isinstance(op, Activation):
        return "spiking"
    if isinstance(op, Synapse):
        return "synapse"
    return "linear" if op.affine else "analog"
