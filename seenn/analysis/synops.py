"""Synaptic operations: what each spike costs downstream, counted by where it really arrives."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import INPUT, macs
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IncrementalProduct, Neuron, StatelessOp
from seenn.core.ops.base import Traffic
from seenn.device import recording_gradients
from seenn.distributed import World
from seenn.exits import cost_of_steps
from seenn.metrics.energy import DenseCost
from seenn.runtime.observer import Observer

EXACT = 1 << 24  # float32 holds every integer below


def traffic(network: SpikingNetwork) -> dict[str, Traffic]:
    """What flows out of each node: a value that is constant per image, spikes, or analog values per step."""
    kinds: dict[str, Traffic] = {INPUT: "constant"}
    for node in network.graph:
        constant = node.name in network.prefix
        kinds[node.name] = "constant" if constant else node.op.traffic({kinds[name] for name in node.inputs})
    return kinds


def fan_out(network: SpikingNetwork) -> dict[str, Tensor]:
    """Synapses that one spike of each neuron reaches before the next neurons, ``[C, H, W]`` per site."""
    return {site: torch.stack([*parts.values()]).sum(0) for site, parts in fan_outs(network).items()}


def fan_outs(network: SpikingNetwork) -> dict[str, dict[int, Tensor]]:
    """The same by the segment of a step, from 0, in which the synapses are: those with any, or the site's own.

    Found by convolving events with ones: the total number of synaptic operations is linear in the spike
    counts, so its gradient is the fan-out; borders, strides, groups and pooling are right by construction.
    """
    if not network.sites:
        return {}
    shapes = network.graph.shapes(network.input_shape)
    device = network.device
    with recording_gradients():
        events = {
            site: torch.zeros(1, *shapes[site], dtype=torch.float64, device=device, requires_grad=True)
            for site in network.sites
        }
        own = [events[site] for site in network.sites]
        totals = _arriving(network, events)
        grads = [torch.autograd.grad(total, own, retain_graph=True) for total in totals]
    segments, found = _segments(network), {}
    for site, *parts in zip(network.sites, *grads, strict=True):
        reached = {number: part[0].float() for number, part in enumerate(parts) if bool(part.any())}
        found[site] = reached or {segments[site]: parts[0][0].float()}
    return found


def _segments(network: SpikingNetwork) -> dict[str, int]:
    """The segment of a step in which each node of it is, from 0."""
    return {node.name: number for number, segment in enumerate(network.segments) for node in segment.nodes}


def _arriving(network: SpikingNetwork, events: Mapping[str, Tensor]) -> list[Tensor]:
    """How many synapses of each segment the events reach: linear functions of them."""
    segments = _segments(network)
    kinds, shapes = traffic(network), {INPUT: network.input_shape, **network.shapes}
    values: dict[str, Tensor] = {}
    nothing = sum((0.0 * event.sum() for event in events.values()), start=torch.zeros((), dtype=torch.float64))
    totals = [nothing] * len(network.segments)
    for node in network.graph:
        if node.op.fires:
            values[node.name] = events[node.name]
        elif node.op.fed_by_spikes([kinds[name] for name in node.inputs]):
            assert isinstance(node.op, StatelessOp | IncrementalProduct)
            none = (torch.zeros(1, *shapes[name], dtype=torch.float64, device=nothing.device) for name in node.inputs)
            arrived = node.op.route(*(values.get(name, zeros) for name, zeros in zip(node.inputs, none, strict=True)))
            if kinds[node.name] == "spikes":
                values[node.name] = arrived
            else:  # spikes end in a synapse, or in a product
                totals[segments[node.name]] = totals[segments[node.name]] + arrived.sum()
    return totals


def dense_cost(network: SpikingNetwork, *, sequence: bool = False) -> DenseCost:
    """Counts the multiply-accumulates that spikes do not replace.

    The first layers see a constant image once, and every frame of a ``sequence``.
    """
    kinds, shapes = traffic(network), network.graph.shapes(network.input_shape)
    ann = once = per_step = spiking = 0
    for node in network.graph:
        cost = macs(node, shapes)
        ann += cost
        if node.name in network.prefix and not sequence:
            once += cost
        elif node.op.fed_by_spikes([kinds[name] for name in node.inputs]):
            spiking += cost
        else:
            per_step += cost
    return DenseCost(ann=ann, once=once + network.initial_steps * per_step, per_step=per_step, spiking=spiking)


def analog_steps(network: SpikingNetwork, timesteps: int) -> Tensor:
    """How many full steps do as many MACs that spikes do not replace as are done up to each exit point: ``[P]``."""
    kinds, shapes = traffic(network), {INPUT: network.input_shape, **network.shapes}
    analog = [
        sum(
            macs(node, shapes)
            for node in segment.nodes
            if not node.op.fed_by_spikes([kinds[name] for name in node.inputs])
        )
        for segment in network.segments
    ]
    total = sum(analog)
    return cost_of_steps(timesteps, 0, [part / total if total else 1.0 for part in accumulate(analog)])


def running_means(network: SpikingNetwork) -> dict[str, str]:
    """The nodes that act on running means, with what they compute: smooth functions, normalisation, maxima."""
    titles = {name: network.graph[name].op.title for name in network.running_means}
    return {name: title.removeprefix("cumulative ").removeprefix("differential ") for name, title in titles.items()}


def spiking_report(network: SpikingNetwork) -> dict[str, Any]:
    """How much of a network is spikes: multiply-accumulates per image, and what acts on running means."""
    cost = dense_cost(network)
    return {
        "spiking_mac_share": cost.spiking_mac_share,
        "running_means": running_means(network),
        "ann_macs": cost.ann,
        "macs_once": cost.once,
        "macs_per_step": cost.per_step,
    }


def most_levels(network: SpikingNetwork, timesteps: int) -> int:
    """How many values the finest neurons of a network tell apart in so many steps."""
    neurons = (network.graph[site].op for site in network.sites)
    return max((op.distinct(timesteps) for op in neurons if isinstance(op, Neuron)), default=1)


class SpikeCounter(Observer):
    """Counts spikes in three ways, of the samples that really run.

    Of a neuron's count n in a step, ``events`` counts one unless n = 0; ``popcount`` the bits that are set in its size,
    which is what a binary-weighted code sends; ``spikes`` its size, so that a spike taken back counts one more.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self._counted = torch.zeros(len(network.sites), 4, dtype=torch.float64)  # steps, events, popcount, spikes
        self._row = {site: row for row, site in enumerate(network.sites)}

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        sizes = torch.bincount(counts.detach().abs().flatten().int()).cpu().double()  # how often each occurs
        worth = [(1, n > 0, n.bit_count(), n) for n in range(len(sizes))]
        self._counted[self._row[site]] += sizes @ torch.tensor(worth, dtype=torch.float64).view(-1, 4)

    def gather(self, here: World) -> None:
        """Adds up what the processes have counted."""
        self._counted = here.sum_(self._counted)

    @property
    def totals(self) -> dict[str, float]:
        """Events, popcount and spikes, of all sites and samples together."""
        return dict(zip(("events", "popcount", "spikes"), self._counted.sum(0)[1:].tolist(), strict=True))

    @property
    def rates(self) -> Mapping[str, float]:
        """Spikes per neuron and timestep, by site; a negative spike counts one."""
        return {
            site: float(self._counted[row, 3] / self._counted[row, 0].clamp(min=1)) for site, row in self._row.items()
        }


class SpikeMeter(SpikeCounter):
    """Counts spikes, and the synaptic operations that they are worth; a burst of n spikes counts n.

    Attributes:
        synops: of each sample between one exit point and the next, float64 ``[P, N]``; 0 where it did not run. The
            first step's include those of initial steps. A sample that leaves at a head has sent spikes to the synapses
            behind it as well, which compute nothing then: see ``until``.
    """

    def __init__(self, network: SpikingNetwork, timesteps: int, samples: int) -> None:
        super().__init__(network)
        self._fan_outs = fan_outs(network)
        self._segments = len(network.segments)
        self.synops = torch.zeros(timesteps * self._segments, samples, dtype=torch.float64)

    def until(self, points: Tensor) -> Tensor:
        """Synaptic operations of each sample up to its exit point, int64 ``[N]`` from 1: float64 ``[N]``."""
        return self.synops.cumsum(0).gather(0, points[None] - 1)[0]

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        super().spikes(t, samples, site, counts)
        first = (t.clamp(min=1) - 1) * self._segments
        for number, fan_out in self._fan_outs[site].items():
            found = _synops(counts.detach().abs(), fan_out).cpu()
            self.synops.index_put_((first + number, samples), found, accumulate=True)

    def gather(self, here: World) -> None:
        """Adds up what the processes have counted, and joins their samples in the order of the ranks."""
        super().gather(here)
        self.synops = here.cat(self.synops, 1)


def _synops(spikes: Tensor, fan_out: Tensor) -> Tensor:
    """How many synapses the spikes of each sample reach, float64 ``[B]``.

    In one reading, along the memory: parts of a sample are added up in float32, which is exact while they stay below
    2^24, and the parts in float64.
    """
    spikes = spikes.to(torch.promote_types(spikes.dtype, torch.float32))
    order = sorted(range(1, spikes.dim()), key=spikes.stride, reverse=True)
    parts = spikes.shape[order[0]] if len(order) > 1 else 1
    values = spikes.permute(0, *order).reshape(len(spikes), parts, -1).transpose(0, 1)
    weights = fan_out.permute([axis - 1 for axis in order]).reshape(parts, -1, 1)
    found = torch.bmm(values, weights.to(values.dtype))
    if found.numel() and float(found.max()) >= EXACT:
        found = torch.bmm(values.double(), weights.double())
    return found.sum(0, dtype=torch.float64).squeeze(1)
