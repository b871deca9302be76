"""Sums beyond 2^24, which float32 does not hold: every integer against NumPy's float64, which does (to 2^53)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seenn import native
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    AdaptiveAvgPool2d,
    Add,
    Conv2d,
    CumulativeDifference,
    Encoder,
    Flatten,
    IFNeuron,
    LeakyReLUNeuron,
    Linear,
    MaxPool2d,
    Neuron,
)
from seenn.export import interpreter
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import DOUBLE, FLOAT32, INT8, PLAIN, Kernel
from seenn.runtime.lowering import Program, lower
from seenn.runtime.lowering.program import EXACT_LIMIT
from seenn.snn import SNN

T = 8
CPU = torch.device("cpu")
NEURONS: dict[str, Callable[..., Neuron]] = {
    "binary": IFNeuron,
    "burst": partial(IFNeuron, max_spikes=4),
    "signed": partial(IFNeuron, signed=True, max_spikes=4),
    "two-sided": partial(LeakyReLUNeuron, slope=0.3, max_spikes=4),
    "encoder": partial(Encoder, max_spikes=4),
}


def wide_network(kind: str) -> SpikingNetwork:
    """160 neurons with up to 127 spikes a step drive others, of both signs, far beyond what those can send on."""
    random = torch.Generator().manual_seed(0)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(-1, 1, 1, 1)
    neuron, theta = NEURONS[kind], torch.tensor([8.0, 90.0, 3000.0, 500.0])
    nodes = [
        Node("stem", Conv2d(0.5 + torch.rand(160, 1, 1, 1, generator=random)), (INPUT,)),
        Node("sources", IFNeuron(0.125, 0.5, max_spikes=127), ("stem",)),
        Node("all", Conv2d(sign * (0.2 + torch.rand(4, 160, 3, 3, generator=random)), padding=1), ("sources",)),
        Node("largest", CumulativeDifference(MaxPool2d(kernel=2, stride=2)), ("all",)),
        Node("n1", neuron(theta, 0.5), ("largest",)),
        Node("straight", Conv2d(sign * torch.rand(4, 160, 2, 2, generator=random), stride=(2, 2)), ("sources",)),
        Node("again", Conv2d(torch.randn(4, 4, 3, 3, generator=random), padding=1), ("n1",)),
        Node("add", Add(), ("straight", "again", "n1")),
        Node("n2", neuron(theta.flip(0), 0.5), ("add",)),
        Node("mean", AdaptiveAvgPool2d(), ("sources",)),
        Node("flat", Flatten(), ("mean",)),
        Node("own", Flatten(), ("n2",)),
        Node("head1", Linear(torch.rand(5, 160, generator=random)), ("flat",)),
        Node("head2", Linear(torch.randn(5, 64, generator=random)), ("own",)),
        Node("head", Add(), ("head1", "head2")),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False).eval()


def images() -> Tensor:
    levels = torch.randint(0, 2049, (5, 1, 8, 8), generator=torch.Generator().manual_seed(1)) / 128.0
    levels[0] = 16.0
    return levels


def run(program: Program, kernels: list[Kernel], compiled: bool, tile: int) -> dict[str, Any]:
    """Counts of all sites and the summed outputs after each step, and membranes in the end, as integers."""
    engine = FusedEngine(program, kernels, "int8", CPU, native.load("engine") if compiled else None)
    engine.tile = tile
    slots = engine.open(5)
    found: dict[str, Any] = {}
    slots.load(torch.arange(5), images())
    steps: list[dict[str, list[Tensor]]] = []
    for _ in range(T):
        steps.append({})
        slots.step(
            torch.arange(5), observe=lambda site, first, counts: steps[-1].setdefault(site, []).append(counts.clone())
        )
        steps[-1]["total"] = [slots.total.clone()]
    for name in steps[0]:
        found[name] = torch.stack([torch.cat(step[name]) for step in steps]).double().numpy()
    return found | {name: slots._kept[name].double().numpy() for name in ("n1.v", "n2.v")}


class InFloat64(interpreter.Network):
    """NumPy's run of the file; keeps the membranes."""

    def integers(self, inputs: Tensor) -> dict[str, Any]:
        self.membranes: dict[str, Any] = {}
        counts, outputs = self.run(inputs.numpy(), T)
        return {**{site: np.stack(values) for site, values in counts.items()}, "total": np.cumsum(outputs, 0)} | {
            name: self.membranes[name] for name in ("n1.v", "n2.v")
        }

    def fire(self, i: dict[str, Any], values: dict[str, Any]) -> None:
        super().fire(i, values)
        self.membranes[i["membrane"]] = values[i["membrane"]].copy()


@pytest.mark.parametrize("kind", NEURONS)
def test_every_way_to_compute_sums_beyond_float32_gives_the_integers_of_float64(kind: str, tmp_path: Path) -> None:
    network = wide_network(kind)
    program = lower(network, timesteps=T)
    held = {name: buffer.dtype for name, buffer in program.buffers.items()}
    assert {held["largest.total"], held["n1.v"], held["n2.v"]} == {torch.int32}
    assert held["output"] == torch.float64
    SNN(network=network).export(tmp_path / "snn.npz", to="integers", images=images(), timesteps=T)
    scale = program.input_scale
    assert scale is not None
    expected = InFloat64(str(tmp_path / "snn.npz")).integers(scale.quantize(images()))
    assert all(np.abs(expected[name]).max() > EXACT_LIMIT for name in ("total", "n1.v", "n2.v"))
    for kernels in ([INT8, FLOAT32, DOUBLE], [FLOAT32, DOUBLE], [PLAIN, DOUBLE], [DOUBLE]):
        for compiled, tile in ((False, 5), (True, 1), (True, 4)):
            found = run(program, kernels, compiled, tile)
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], values) for name, values in expected.items())
    in_float32 = {name: replace(buffer, dtype=torch.float32) for name, buffer in program.buffers.items()}
    other = run(replace(program, buffers=in_float32), [FLOAT32, DOUBLE], False, 5)
    assert not all(np.array_equal(other[name], values) for name, values in expected.items())
