"""A network that is small and real: gray pictures of 8 by 8 pixels, three classes, exits after one to four steps."""

from __future__ import annotations

import torch

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AdaptiveAvgPool2d, Add, Conv2d, Flatten, IFNeuron, Linear
from seenn.data import Preprocessing, load_data
from seenn.exits import ConfidenceExit
from seenn.snn import SNN


def tiny_snn() -> SNN:
    """The same at every call."""
    random = torch.Generator().manual_seed(0)
    nodes = [
        Node("flat", Flatten(), (INPUT,)),
        Node("hidden", Linear(torch.randn(16, 64, generator=random) / 4), ("flat",)),
        Node("relu", IFNeuron(0.5), ("hidden",)),
        Node("head", Linear(torch.randn(3, 16, generator=random)), ("relu",)),
    ]
    return SNN(
        network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False),
        preprocessing=Preprocessing(channels=1, height=8, width=8, mean=(0.2,), std=(0.5,)),
        manifest={"timesteps": 4, "class_names": ["cat", "dog\nhouse", "eel"]},
        policy=ConfidenceExit(threshold=0.7),
    )


def digits_snn() -> SNN:
    """Random neurons and ten classes, with the digits as its data."""
    data = load_data("digits")
    graph = deep_network(heads=0).graph
    graph = graph.replace({"head": Linear(torch.randn(10, 8, generator=torch.Generator().manual_seed(3)))})
    network = SpikingNetwork(OpGraph(graph, "head"), (1, 8, 8)).requires_grad_(False).eval()
    manifest = {"timesteps": 2, "data": data.manifest()}
    policy = ConfidenceExit(threshold=0.9)
    return SNN(network=network, preprocessing=data.preprocessing, manifest=manifest, policy=policy)


def deep_network(*, heads: int = 2) -> SpikingNetwork:
    """Three blocks of neurons, the second with a shortcut, and so many heads behind the first ones; random weights."""
    random = torch.Generator().manual_seed(1)

    def conv(channels: int, inputs: int) -> Conv2d:
        return Conv2d(torch.randn(channels, inputs, 3, 3, generator=random) / (2 * inputs**0.5), padding=1)

    nodes = [
        Node("stem", conv(6, 1), (INPUT,)),
        Node("a", IFNeuron(0.4), ("stem",)),
        Node("b.conv1", conv(6, 6), ("a",)),
        Node("b.inner", IFNeuron(0.5, max_spikes=2), ("b.conv1",)),
        Node("b.conv2", conv(6, 6), ("b.inner",)),
        Node("b.join", Add(), ("b.conv2", "a")),
        Node("b", IFNeuron(0.6), ("b.join",)),
        Node("c.conv", conv(8, 6), ("b",)),
        Node("c", IFNeuron(0.5), ("c.conv",)),
        Node("pool", AdaptiveAvgPool2d((1, 1)), ("c",)),
        Node("flat", Flatten(), ("pool",)),
        Node("head", Linear(2 * torch.randn(3, 8, generator=random), torch.randn(3, generator=random) / 4), ("flat",)),
    ]
    for number, at in enumerate(("a", "b")[:heads], 1):
        weight = 4 * torch.randn(3, 24, generator=random)
        chain = [
            Node(f"exit{number}.pool", AdaptiveAvgPool2d((2, 2)), (at,)),
            Node(f"exit{number}.flat", Flatten(), (f"exit{number}.pool",)),
            Node(f"exit{number}", Linear(weight, torch.randn(3, generator=random) / 4), (f"exit{number}.flat",)),
        ]
        place = 1 + [node.name for node in nodes].index(at)
        nodes[place:place] = chain
    names = [f"exit{number}" for number in range(1, heads + 1)]
    return SpikingNetwork(OpGraph(nodes, "head", names), (1, 8, 8)).requires_grad_(False).eval()
