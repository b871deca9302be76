"""Small networks, built by hand so that a test does not depend on capture or conversion."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Add, AvgPool2d, Conv2d, Flatten, IFNeuron, Linear

MakeNetwork = Callable[..., SpikingNetwork]


@pytest.fixture
def make_network() -> MakeNetwork:
    """A residual network for ``[B, 2, 6, 6]`` with 5 classes and two sites; float64, seeded."""

    def make(*, signed: bool = True, max_spikes: int = 2, seed: int = 0) -> SpikingNetwork:
        random = torch.Generator().manual_seed(seed)

        def weight(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        def neuron(*theta: float) -> IFNeuron:
            return IFNeuron(torch.tensor(theta, dtype=torch.float64), signed=signed, max_spikes=max_spikes).double()

        nodes = [
            Node("conv1", Conv2d(weight(4, 2, 3, 3) / 3, weight(4), padding=1), (INPUT,)),
            Node("relu1", neuron(0.5, 1.0, 1.5, 2.0), ("conv1",)),
            Node("conv2", Conv2d(weight(4, 2, 3, 3) / 3, weight(4) / 4, padding=1, groups=2), ("relu1",)),
            Node("add", Add(), ("conv2", "relu1")),
            Node("relu2", neuron(0.7, 0.8, 0.9, 1.0), ("add",)),
            Node("pool", AvgPool2d(kernel=2, stride=2), ("relu2",)),
            Node("flatten", Flatten(), ("pool",)),
            Node("head", Linear(weight(5, 36) / 3, weight(5)), ("flatten",)),
        ]
        return SpikingNetwork(OpGraph(nodes, "head"), (2, 6, 6)).requires_grad_(False)

    return make


@pytest.fixture
def network(make_network: MakeNetwork) -> SpikingNetwork:
    return make_network()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(12, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
