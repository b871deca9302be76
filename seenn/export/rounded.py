"""A plan as layers of a chip: weights in int8, thresholds that are powers of two, and the network that this is.

Rounding makes another network. It is written out here as one of seenn's, so that a reader can be held to it spike for
spike: with a threshold of 2^k, every weight is a multiple of θ/2^k, and float32 adds them without rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AvgPool2d, Conv2d, Flatten, Neuron, Scale
from seenn.errors import ExportError
from seenn.export.exporter import REPORT, Subject
from seenn.export.nir_plan import Plan, Site

MOST = 127  # of a weight or a bias
AGREEMENT = 0.99  # of the labels with those of the network before rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One convolution of spikes, and the neurons that it charges.

    Attributes:
        name: of the site; ``output`` for what is read out.
        node: of its weights in the plan.
        source: name of the layer whose spikes it reads; None for the input.
        pool: side of the squares that are summed before.
        weight, bias: integers ``[O, C, k, k]`` and ``[O]``.
        unit: θ, a power of two; of what is read out, what 1 is worth.
        before, after: shapes of what the convolution reads and gives.
        fields: stride, padding and dilation.
        site: the neurons; None for what is read out.
    """

    name: str
    node: str
    source: str | None
    pool: int
    weight: Tensor
    bias: Tensor
    unit: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    fields: Mapping[str, Any]
    site: Site | None

    @property
    def charge(self) -> Tensor:
        """The membranes before the first step, integers ``[O]``."""
        assert self.site is not None
        return (self.site.charge * self.unit).round()

    def memory(self) -> tuple[int, int, int]:
        """Words for weights, membranes and biases, each axis rounded up to a power of two as sinabs counts them."""
        outputs, channels, height, width = self.weight.shape
        kernel = channels << (_bits(height * width) + _bits(outputs))
        return kernel, outputs << (_bits(self.after[1]) + _bits(self.after[2])), outputs


class Rounded:
    """All layers of a plan.

    Attributes:
        plan: what was rounded.
        layers: in order, what is read out last.
        problems: why the plan is none of such layers, by node.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._sites = {own.node: name for name, own in plan.sites.items()}
        self.layers: list[Layer] = []
        self.problems: list[str] = []
        for node in (*self._sites, "output"):
            self._layer(node)

    def network(self, input_shape: Sequence[int]) -> SpikingNetwork:
        """What chips compute, in thresholds; sites are called as in the network that was rounded."""
        nodes: list[Node] = []

        def put(name: str, op: Any, source: str) -> str:
            nodes.append(Node(name, op, (source,)))
            return name

        for layer in self.layers:
            value = layer.source or INPUT
            if layer.pool > 1:
                value = put(f"{layer.name}.mean", AvgPool2d((layer.pool, layer.pool), (layer.pool, layer.pool)), value)
                value = put(f"{layer.name}.sum", Scale(float(layer.pool**2)), value)
            weight, bias = layer.weight / layer.unit, layer.bias / layer.unit
            value = put(f"{layer.name}.layer", Conv2d(weight.float(), bias.float(), **layer.fields), value)
            if layer.site is not None:
                put(layer.name, self._neuron(layer, layer.site.neuron), value)
            else:
                value = put("output", Flatten(), value)
        return SpikingNetwork(OpGraph(nodes, "output"), tuple(input_shape)).eval().requires_grad_(False)

    def nodes(self, thresholds: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The plan's nodes with integers, and these thresholds by site; and the arrays that nodes name."""
        own = {layer.node: layer for layer in self.layers}
        arrays: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for node, (kind, fields) in self.plan.nodes.items():
            given = {**fields}
            if node in self._sites:
                given["v_threshold"] = thresholds[self._sites[node]]
            if node in own:
                arrays[f"{node}.weight"] = own[node].weight.float().view(fields["weight"].shape).numpy()
                arrays[f"{node}.bias"] = own[node].bias.float().numpy()
                given |= {"weight": f"{node}.weight", "bias": f"{node}.bias"}
            found[node] = (kind, given)
        return found, arrays

    def _neuron(self, layer: Layer, neuron: Neuron) -> Neuron:
        start = (layer.charge / layer.unit).float()
        arguments: dict[str, Any] = {"max_spikes": getattr(neuron, "max_spikes", 1)}
        return type(neuron)(torch.ones(()), start, **arguments)

    def _layer(self, node: str) -> None:
        site = self.plan.sites.get(self._sites.get(node, ""))
        name = self._sites.get(node, node)
        feeding = [a for a, b in self.plan.edges if b == node]
        if len(feeding) != 1 or self.plan.nodes[feeding[0]][0] not in ("Conv2d", "Affine"):
            self.problems.append(f"{name}: a chip adds up one layer of weights here: use a network without joins")
            return
        (layer,) = feeding
        kind, fields = self.plan.nodes[layer]
        sources = [a for a, b in self.plan.edges if b == layer]
        pool = 1
        if len(sources) == 1 and self.plan.nodes[sources[0]][0] == "SumPool2d":
            pooling = self.plan.nodes[sources[0]][1]
            pool = pooling["kernel_size"][0]
            if {*pooling["kernel_size"], *pooling["stride"]} != {pool}:
                self.problems.append(f"{name}: sums over squares side by side are possible before it, no others")
            sources = [a for a, b in self.plan.edges if b == sources[0]]
        if len(sources) != 1 or sources[0] not in ("input", *self._sites):
            self.problems.append(f"{name}: its layer reads no single group of neurons: use a network without joins")
            return
        weight = fields["weight"] if kind == "Conv2d" else fields["weight"][:, :, None, None]
        unit = _unit(weight, fields["bias"])
        if unit == 0:
            self.problems.append(f"{name}: a weight or bias is over {MOST} thresholds: calibrate or train again")
            return
        geometry = {key: tuple(fields.get(key, default)) for key, default in _PLAIN.items()}
        size = fields.get("input_shape", (1, 1))
        after = (len(weight), *(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, weight.shape[2:], *geometry.values(), strict=True)
        ))  # fmt: skip
        rounded = [(value * unit).round() for value in (weight, fields["bias"])]
        self.layers.append(
            Layer(
                name=name,
                node=layer,
                source=self._sites.get(sources[0]),
                pool=pool,
                weight=rounded[0],
                bias=rounded[1],
                unit=unit,
                before=(weight.shape[1], *size),
                after=after,
                fields=geometry,
                site=site,
            )
        )


_PLAIN = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}


def sees_spikes(subject: Subject, most: float = math.inf) -> bool:
    """Whether the network reads spikes, up to ``most`` at once, one frame a timestep."""
    x = subject.batch.inputs
    return subject.batch.is_sequence and bool(((x == x.round()) & (x >= 0) & (x <= most)).all())


def hold(subject: Subject, rounded: Rounded, said: str, found: Mapping[str, Tensor]) -> dict[str, Any]:
    """Compares a reader's spikes with those of the rounded network, and its labels with the network's.

    Raises:
        ExportError: a spike differs, or rounding changes too many labels.
    """
    spikes, steps = 0, list(_steps(rounded.network(subject.network.input_shape), subject))
    for t, (counts, _) in enumerate(steps):
        for site, own in counts.items():
            theirs = found[f"spikes.{site}"][t]
            if not torch.equal(theirs, own):
                raise ExportError(
                    f"{said} fires otherwise: {int((theirs != own).sum())} of {own.numel()} neurons at {site} in "
                    f"step {t + 1}: {REPORT}"
                )
            spikes += own.numel()
    labels = _labels(_steps(subject.network, subject))
    share = float((_labels(steps) == labels).double().mean())
    if share < AGREEMENT:
        raise ExportError(
            f"in int8 {share:.1%} of {len(labels)} labels are the network's, expected {AGREEMENT:.0%}: compare on "
            "more --images, or train with --weight-decay for smaller weights"
        )
    figures = {"images": len(labels), "timesteps": subject.timesteps, "spikes": spikes, "differences": 0}
    return {**figures, "agreement": share}


def _steps(network: SpikingNetwork, subject: Subject) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Spike counts by site, and outputs, of each step."""
    state = None
    for t in range(1, subject.timesteps + 1):
        counts: dict[str, Tensor] = {}
        output, state = network.advance(network.encode(subject.batch.frame(t)), state, counts.__setitem__)
        yield counts, output


def _labels(steps: Iterable[tuple[dict[str, Tensor], Tensor]]) -> Tensor:
    return torch.stack([output for _, output in steps]).sum(0).argmax(-1)


def _unit(weight: Tensor, bias: Tensor) -> int:
    """The largest power of two that keeps weights and biases within int8; 0 where none does."""
    largest = max(float(weight.abs().max()), float(bias.abs().max()), MOST / 2**14)
    return 2 ** math.floor(math.log2(MOST / largest)) if largest <= MOST else 0


def _bits(size: int) -> int:
    return math.ceil(math.log2(size))
