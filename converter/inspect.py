"""What a conversion would do to a model, node by node, before any data is needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from converter.config import warn_of_islands
from converter.conversion import offending_maxima, place_neurons, refuse_linear, refuse_neurons, sites_of
from converter.outputs import refuse_scores
from converter.passes import encode_operands, normalise
from converter.precision import computing_in
from converter.trace import capture_graph, prepared
from seenn.analysis.synops import dense_cost, running_means
from seenn.capture import CapturedGraph, Offender, Unsupported
from seenn.capture.head import LEFT_OUT, without_head
from seenn.capture.plain import Substitutes
from seenn.core.graph import Node, OpGraph, macs
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Activation, Identity, IFNeuron, Synapse
from seenn.errors import UnsupportedError
from seenn.metrics.energy import DenseCost


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One call of the source model and its ``fate``.

    ``spiking``: becomes neurons. ``synapse``: the weights that spikes travel through. ``product``: multiplies spikes by
    spikes. ``folded``: becomes part of a synapse. ``linear``: acts on every step's current. ``running mean``: not
    linear, acts on the mean of all steps so far. ``unsupported``: stands in the way. ``encoder`` is the neurons that
    carry the node's value as spikes to what multiplies it, 0 where none are needed.
    """

    node: str
    op: str
    shape: tuple[int, ...]
    fate: str
    macs: int
    parameters: int
    neurons: int = 0
    encoder: int = 0


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All nodes of a model, their totals, and everything that stands in the way of its conversion.

    Attributes:
        nodes: in the order of the calls.
        problems: with the reason and a fix each; none where the model can be converted as asked.
        notes: what is unusual about the result, for people.
        strict: whether only affine ops and neurons are allowed.
        sites: activation call sites that become neurons.
        encoders: values that identity encoders carry as spikes.
        neurons: neurons at all of these sites together, for one image.
        spiking_mac_share: see ``DenseCost``.
        running_means: the nodes that act on running means, with what they compute.
        parameters: of the model.
        macs: multiply-accumulates of the ANN, per image.
        macs_once: of them, what the spiking network does once an image: its first layers.
        macs_per_step: and in every step, where what they multiply is not spikes.
    """

    nodes: tuple[NodeReport, ...]
    problems: tuple[Offender, ...]
    notes: tuple[str, ...]
    strict: bool
    sites: int
    encoders: int
    neurons: int
    spiking_mac_share: float
    running_means: Mapping[str, str]
    parameters: int
    macs: int
    macs_once: int
    macs_per_step: int

    @property
    def convertible(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For ``seenn inspect --json``. Counts of spikes are known when images have been seen."""
        return {**asdict(self), "convertible": self.convertible, "events": None, "popcount": None, "spikes": None}


def inspect_model(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    strict: bool = False,
    output: str | int | None = None,
    activations: Substitutes | None = None,
    analog_islands: bool | None = None,
) -> Inspection:
    """Traces and normalises a model and says what becomes of each node, and all that stands in the way.

    Args:
        model: an ANN.
        input_shape: of one image.
        strict: allow affine ops and neurons only.
        output, activations: as of ``convert_module``.
        analog_islands: deprecated: without effect.

    Raises:
        UnsupportedError: it cannot be traced at all.
        ModelError: it holds neurons already.
    """
    warn_of_islands(analog_islands)
    refuse_neurons(model)
    example = torch.zeros(2, *input_shape)
    source = prepared(model, example, output=output, activations=activations).requires_grad_(False)
    with computing_in(torch.float32):
        found = capture_graph(source, example)
    graph, shapes = found.graph, found.graph.shapes(input_shape)
    canonical, head, left_out = without_head(normalise(graph, input_shape), input_shape)
    after = encode_operands(canonical, input_shape)
    kept = after.shapes(input_shape)
    encoded = {node.inputs[0]: math.prod(kept[node.name]) for node in after if isinstance(node.op, Identity)}
    nodes = tuple(
        NodeReport(
            node=node.name,
            op=node.op.title,
            shape=shapes[node.name],
            fate=_fate(node, kept),
            macs=macs(node, shapes),
            parameters=sum(t.numel() for t in node.op.tensors().values()),
            neurons=math.prod(kept[node.name]) if isinstance(node.op, Activation) else 0,
            encoder=encoded.get(node.name, 0),
        )
        for node in graph
    )
    problems = _problems(model, found, canonical, left_out, kept[canonical.output], strict)
    sites = [node for node in nodes if node.fate == "spiking"]
    network = _placed(after, input_shape)
    cost = DenseCost(ann=0, once=0, per_step=0) if network is None else dense_cost(network)
    notes: tuple[str, ...] = () if head is None else (LEFT_OUT % head,)
    if not problems and network is not None and not network.sites:
        notes += ("0 neurons: nothing is multiplied after the first layer, so that nothing needs spikes",)
    return Inspection(
        nodes=nodes,
        problems=problems,
        notes=notes,
        strict=strict,
        sites=len(sites),
        encoders=len(encoded),
        neurons=sum(site.neurons for site in sites) + sum(encoded.values()),
        spiking_mac_share=cost.spiking_mac_share,
        running_means={} if network is None else running_means(network),
        parameters=sum(p.numel() for p in model.parameters()),
        macs=sum(node.macs for node in nodes),
        macs_once=cost.once,
        macs_per_step=cost.per_step,
    )


def _problems(
    model: nn.Module,
    found: CapturedGraph,
    canonical: OpGraph,
    left_out: Collection[str],
    output: Sequence[int],
    strict: bool,
) -> tuple[Offender, ...]:
    problems = list(found.refused(strict=strict, left_out=left_out))
    if strict:
        problems += offending_maxima(canonical)
    name = type(model).__name__
    if (refusal := refuse_scores(output)) and not problems:
        reason, fix = refusal.split(": ", 1)
        problems.append(Offender("output", name, reason, fix))
    try:
        refuse_linear(found.graph)
    except UnsupportedError as error:
        if not problems:
            reason, fix = str(error).split(": ", 1)
            problems.append(Offender(name, "model", reason, fix))
    return tuple(problems)


def _placed(graph: OpGraph, input_shape: Sequence[int]) -> SpikingNetwork | None:
    """The network with neurons of any kind; None where nothing in it has a state. What is unsupported stays analog."""
    if all(node.op.affine for node in graph):
        return None
    return place_neurons(graph, {site: IFNeuron() for site in sites_of(graph)}, input_shape)


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
    if op.bilinear:
        return "product"
    return "linear" if op.affine else "running mean"
