"""Small networks of every kind, with their preprocessing and an exit rule."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Add, AvgPool2d, Conv2d, CumulativeDifference, Flatten, IFNeuron, Linear, MaxPool2d, Neuron
from seenn.data import Preprocessing
from seenn.exits import ConfidenceExit, ExitPolicy
from seenn.snn import SNN

MakeSnn = Callable[..., SNN]
#: Forgets seenn, which a reader's process has not imported and which some say of themselves.
APART = """
import runpy, sys
for name in [name for name in sys.modules if name.partition(".")[0] == "seenn"]:
    del sys.modules[name]
"""
CODE = 'exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})'
FILE = 'del sys.argv[0]; runpy.run_path(sys.argv[0], run_name="__main__")'


@pytest.fixture
def forked_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that this Python runs start with everything imported.

    Others, such as scripts of a test which call it, start as they do elsewhere.
    """

    def run(command: list[str], *, cwd: Path | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
        python, *rest = command
        if python != sys.executable:
            return subprocess.run(command, cwd=cwd, **how)
        given = rest[rest.index("ignore") + 1 :]  # after Python's own options
        if given[0] == "-c":
            return forked.run("-c", APART + CODE, *given[1:], cwd=cwd)
        return forked.run("-c", APART + FILE, *given, cwd=cwd)

    for module in ("seenn.export.nir_run", "seenn.export.formats.torch_"):
        monkeypatch.setattr(f"{module}.subprocess", SimpleNamespace(run=run))


@pytest.fixture
def make_snn() -> MakeSnn:
    """A residual network for gray 8×8 images with 3 classes, max pooling and three sites."""

    def make(
        neuron: Callable[[float | Tensor], Neuron] = IFNeuron,
        *,
        policy: ExitPolicy | None = None,
        pooling: str = "max",
        timesteps: int = 4,
    ) -> SNN:
        random = torch.Generator().manual_seed(0)

        def weight(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=random)

        pool = CumulativeDifference(MaxPool2d(kernel=2, stride=2)) if pooling == "max" else AvgPool2d(2, 2)
        nodes = [
            Node("block.conv1", Conv2d(weight(4, 1, 3, 3) / 2, weight(4) / 4, padding=1), (INPUT,)),
            Node("block.act1", neuron(torch.tensor([0.5, 0.6, 0.7, 0.8])), ("block.conv1",)),
            Node("block.conv2", Conv2d(weight(4, 4, 3, 3) / 5, weight(4) / 8, padding=1), ("block.act1",)),
            Node("block.add", Add(), ("block.conv2", "block.act1")),
            Node("block.act2", neuron(0.9), ("block.add",)),
            Node("pool", pool, ("block.act2",)),
            Node("conv3", Conv2d(weight(6, 2, 3, 3) / 4, stride=2, groups=2, padding=1), ("pool",)),
            Node("act3", neuron(0.4), ("conv3",)),
            Node("flat", Flatten(), ("act3",)),
            Node("head", Linear(weight(3, 24) / 2, weight(3) / 4), ("flat",)),
        ]
        return SNN(
            network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False),
            preprocessing=Preprocessing(channels=1, height=8, width=8, mean=(0.5,), std=(0.25,)),
            manifest={"timesteps": timesteps, "class_names": ["a", "b", "c"]},
            policy=policy or ConfidenceExit(threshold=0.8),
        )

    return make
