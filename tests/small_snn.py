"""A network that is small and real: gray pictures of 8 by 8 pixels, three classes, exits after one to four steps."""

from __future__ import annotations

import torch

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, IFNeuron, Linear
from seenn.data import Preprocessing
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
