"""Synaptic operations: what each spike costs downstream, counted by where it really arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import INPUT, macs
from seenn.core.network import SpikingNetwork
from seenn.core.ops import StatelessOp
from seenn.core.ops.base import Traffic
from seenn.distributed import World


def traffic(network: SpikingNetwork) -> dict[str, Traffic]:
    """What flows out of each node: a value that is constant per image, spikes, or analog values per step."""
    kinds: dict[str, Traffic] = {INPUT: "constant"}
    for node in network.graph:
        constant = node.name in network.prefix
        kinds[node.name] = "constant" if constant else node.op.traffic({kinds[name] for name in node.inputs})
    return kinds


def fan_out(network: SpikingNetwork) -> dict[str, Tensor]:
    """Synapses that one spike of each neuron reaches before the next neurons, ``[C, H, W]`` per site.

    Found by convolving events with ones: the total number of synaptic operations is linear in the spike
    counts, so its gradient is the fan-out; borders, strides, groups and pooling are right by construction.
    """
    if not network.sites:
        return {}
    shapes = network.graph.shapes(network.input_shape)
    device = network.device
    with torch.enable_grad():
        events = {
            site: torch.zeros(1, *shapes[site], dtype=torch.float64, device=device, requires_grad=True)
            for site in network.sites
        }
        total = _arriving(network, events)
        found = torch.autograd.grad(total, [events[site] for site in network.sites])
    return {site: grad[0].float() for site, grad in zip(network.sites, found, strict=True)}


def _arriving(network: SpikingNetwork, events: Mapping[str, Tensor]) -> Tensor:
    """How many synapses the events reach in all: a linear function of them."""
    kinds = traffic(network)
    values: dict[str, Tensor] = {}
    total = sum((0.0 * event.sum() for event in events.values()), start=torch.zeros((), dtype=torch.float64))
    for node in network.graph:
        if node.op.fires:
            values[node.name] = events[node.name]
        elif isinstance(node.op, StatelessOp) and node.op.affine and all(kinds[i] == "spikes" for i in node.inputs):
            arrived = node.op.route(*(values[name] for name in node.inputs))
            if kinds[node.name] == "spikes":
                values[node.name] = arrived
            else:  # spikes end in a synapse
                total = total + arrived.sum()
    return total


@dataclass(frozen=True, kw_only=True)
class DenseCost:
    """Multiply-accumulates for one image.

    Attributes:
        ann: of the analog twin.
        once: of the spiking network's first layers, whose input is the image, and of all initial steps: paid once.
        per_step: of synapses that receive analog values, and of products of two activations, in every step; 0 in
            a fully spiking network. Functions of one value, normalisation and max pooling have no
            multiply-accumulates by the usual count, in the ANN neither.
    """

    ann: int
    once: int
    per_step: int

    @property
    def analog_share(self) -> float:
        """The part of the ANN's multiply-accumulates that spikes do not replace, 0 to 1."""
        return (self.once + self.per_step) / max(1, self.ann)


def dense_cost(network: SpikingNetwork, *, sequence: bool = False) -> DenseCost:
    """Counts the multiply-accumulates that spikes do not replace.

    The first layers see a constant image once, and every frame of a ``sequence``.
    """
    kinds, shapes = traffic(network), network.graph.shapes(network.input_shape)
    ann = once = per_step = 0
    for node in network.graph:
        cost = macs(node, shapes)
        ann += cost
        if node.name in network.prefix and not sequence:
            once += cost
        elif not node.op.affine or any(kinds[name] != "spikes" for name in node.inputs):
            per_step += cost
    return DenseCost(ann=ann, once=once + network.initial_steps * per_step, per_step=per_step)


def analog_nodes(network: SpikingNetwork) -> dict[str, str]:
    """The nodes that stay analog, with what they compute: the islands of a hybrid, and max pools."""
    return {name: network.graph[name].op.title.removeprefix("cumulative ") for name in network.islands}


def synops_per_sample(count: Tensor, fan_out: Tensor) -> Tensor:
    """Synaptic operations that one step's spike counts ``[B, C, ...]`` of a site cause, float64 ``[B]``."""
    return count.detach().abs().flatten(1).double() @ fan_out.flatten().double()


class SampleMeter:
    """A step observer that counts the synaptic operations of every sample of one batch by timestep.

    Attributes:
        synops: of each step alone, float64 ``[T, B]``; 0 where a sample did not run. The first step's include those of
            initial steps.
    """

    def __init__(self, fan_out: Mapping[str, Tensor], timesteps: int, batch: int) -> None:
        self._fan_out = fan_out
        self.synops = torch.zeros(timesteps, batch, dtype=torch.float64)

    def __call__(self, t: int, rows: Tensor, site: str, count: Tensor) -> None:
        self.synops[max(t, 1) - 1, rows.cpu()] += synops_per_sample(count, self._fan_out[site]).cpu()


class SpikeMeter:
    """A step observer that counts spikes and synaptic operations of the samples that really ran."""

    def __init__(self, network: SpikingNetwork) -> None:
        self._fan_out = fan_out(network)
        self._spikes = dict.fromkeys(network.sites, 0.0)
        self._chances = dict.fromkeys(network.sites, 0.0)
        self._synops_per_step: dict[int, float] = {}

    def __call__(self, t: int, rows: Tensor, site: str, count: Tensor) -> None:
        spikes = count.detach().abs()
        self._spikes[site] += float(spikes.sum(dtype=torch.float64))
        self._chances[site] += count.numel()
        synops, t = synops_per_sample(count, self._fan_out[site]).sum(), max(t, 1)
        self._synops_per_step[t] = self._synops_per_step.get(t, 0.0) + float(synops)

    def gather(self, here: World) -> None:
        """Adds up what the processes have counted; integers, so exactly."""
        steps = int(here.max_(torch.tensor(max(self._synops_per_step, default=0))))
        counted: list[dict[Any, Any]] = [
            self._spikes,
            self._chances,
            {t: self._synops_per_step.get(t, 0.0) for t in range(1, steps + 1)},
        ]
        sums = [here.sum_(torch.tensor([*part.values()], dtype=torch.float64)).tolist() for part in counted]
        self._spikes, self._chances, self._synops_per_step = (
            dict(zip(part, values, strict=True)) for part, values in zip(counted, sums, strict=True)
        )

    @property
    def rates(self) -> Mapping[str, float]:
        """Spikes per neuron and timestep, by site; a burst of n counts n, a negative spike one."""
        return {site: self._spikes[site] / max(1, self._chances[site]) for site in self._spikes}

    @property
    def synops(self) -> float:
        """All synaptic operations so far, summed over images and steps."""
        return sum(self._synops_per_step.values())

    @property
    def synops_per_step(self) -> tuple[float, ...]:
        """The same by timestep, t = 1 first, which includes initial steps."""
        return tuple(self._synops_per_step[t] for t in sorted(self._synops_per_step))
