"""An op and its handler from outside: one file is enough to capture, convert, save and load with it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import converter
import seenn
from seenn.core.network import SpikingNetwork
from seenn.core.ops.base import _REGISTRY
from seenn.core.serialisation import graph_from_json, graph_to_json

FILE = '''
import torch
from torch import Tensor, nn

from seenn.capture import Call, Made, handles
from seenn.core.ops import StatelessOp, register


@register("toy_mirror")
class Mirror(StatelessOp):
    """The channels in reverse order, times a gain."""

    affine = True
    homogeneous = True
    attributes = ("gain",)

    def __init__(self, *, gain: float) -> None:
        super().__init__()
        self.gain = float(gain)

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].flip(1) * self.gain


class MirrorChannels(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        order = [c for c in range(int(x.shape[1]))]  # what a trace cannot follow
        return x[:, order[::-1]] * self.gain


@handles(MirrorChannels)
def mirror(call: Call) -> Made:
    return Made(Mirror(gain=call.module.gain), (call.args[0],))
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "toy_plugin.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("toy_plugin")
    del sys.modules["toy_plugin"]
    _REGISTRY.pop("toy_mirror")


def test_one_file_outside_adds_an_op_and_what_becomes_it(toy: ModuleType) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(2, 4, 3), toy.MirrorChannels(0.5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    images = torch.rand(32, 2, 6, 6)
    spiking = nn.Sequential(*ann[:2], seenn.IFNeuron(), *ann[3:])
    for network in (seenn.capture(spiking, images[:2]), converter.convert(ann, images).network):
        assert "toy_mirror" in [node.op.kind for node in network.graph]
        tensors: dict[str, torch.Tensor] = {}
        description = json.loads(json.dumps(graph_to_json(network.graph, network.input_shape, tensors)))
        with torch.no_grad():
            assert torch.equal(SpikingNetwork(*graph_from_json(description, tensors))(images, 8), network(images, 8))
