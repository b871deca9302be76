"""A network that is small and real, its pictures, and how they are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.answers import Picture, Row, answer_pictures
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, IFNeuron, Linear
from seenn.data import Preprocessing
from seenn.exits import ConfidenceExit
from seenn.snn import SNN

Answer = Callable[[Iterable[Picture]], Iterator[Row]]


@pytest.fixture(scope="session")
def snn() -> SNN:
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


@pytest.fixture(scope="session")
def answer(snn: SNN) -> Answer:
    return partial(answer_pictures, snn, snn.session("float32", slots=8), workers=0)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Thirty of them, of several sizes and kinds, of which two cannot be read."""
    random, paths = np.random.default_rng(0), []
    for number in range(30):
        size = (8, 8) if number % 2 else (11, 9, 3)
        path = tmp_path / "pictures" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(path)
        paths.append(str(path))
    for number in (0, 17):
        Path(paths[number]).write_bytes(b"damaged")
    return paths
