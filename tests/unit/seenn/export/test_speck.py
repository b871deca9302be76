"""``speck``: layers in int8 that are a network of their own, and all that no core holds, before it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Add, AvgPool2d, Conv2d, Flatten, FlooredNeuron, IFNeuron, Linear, Neuron
from seenn.errors import UnsupportedError
from seenn.export.exporter import FORMATS
from seenn.export.nir_plan import Plan
from seenn.export.rounded import Rounded
from seenn.snn import SNN

from .conftest import MakeSnn
from .test_nir import bare
from .test_onnx import subject_of

RANDOM = torch.Generator().manual_seed(0)
SPIKES = (torch.rand(4, 6, 1, 8, 8, generator=RANDOM) < 0.4).float()


def chain(make_snn: MakeSnn, neuron: Neuron, *, channels: int = 6, kernel: int = 3, stride: int = 1) -> SNN:
    """Two layers of spikes with a pool between them, and a head."""

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=RANDOM)

    nodes = [
        Node("c1", Conv2d(weight(4, 1, 3, 3) / 2, weight(4) / 4, padding=1), (INPUT,)),
        Node("n1", FlooredNeuron(torch.tensor([0.5, 0.6, 0.7, 0.8])), ("c1",)),
        Node("pool", AvgPool2d(2, 2), ("n1",)),
        Node("c2", Conv2d(weight(channels, 4, kernel, kernel), padding=kernel // 2, stride=stride), ("pool",)),
        Node("n2", neuron, ("c2",)),
        Node("flat", Flatten(), ("n2",)),
        Node("head", Linear(weight(3, channels * (4 // stride) ** 2), weight(3)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False)
    return replace(make_snn(pooling="average"), network=network)


def violations(snn: SNN, inputs: Tensor = SPIKES) -> str:
    subject = replace(subject_of(snn), batch=Batch.of(inputs, (1, 8, 8)))
    return "; ".join(FORMATS.get("speck").violations(subject))


def test_rounded_layers_are_integers_and_a_network_of_their_own(make_snn: MakeSnn) -> None:
    snn = chain(make_snn, FlooredNeuron(0.9, 0.25))
    rounded = Rounded(Plan(snn.network))
    first, second, head = rounded.layers
    assert not rounded.problems
    assert [(layer.name, layer.source, layer.pool) for layer in rounded.layers] == [
        ("n1", None, 1), ("n2", "n1", 2), ("output", "n2", 1)
    ]  # fmt: skip
    network, v, totals = rounded.network((1, 8, 8)), torch.zeros(6, 4, 8, 8), []
    w = (second.charge.view(-1, 1, 1) + torch.zeros(6, 6, 4, 4)).float()
    for frame in SPIKES:
        v = torch.maximum(v + torch.conv2d(frame, first.weight, first.bias, padding=1), torch.tensor(-first.unit))
        n1 = (v / first.unit).floor().clamp(min=0)
        v = v - n1 * first.unit
        summed = torch.nn.functional.avg_pool2d(n1, 2, divisor_override=1)
        w = torch.maximum(w + torch.conv2d(summed, second.weight, second.bias, padding=1), torch.tensor(-second.unit))
        n2 = (w / second.unit).floor().clamp(min=0)
        w = w - n2 * second.unit
        totals.append(torch.conv2d(n2, head.weight, head.bias).flatten(1) / head.unit)
    for layer in rounded.layers:
        assert torch.equal(layer.weight, layer.weight.round())
        assert 63 <= max(layer.weight.abs().max(), layer.bias.abs().max()) <= 127
    state = None
    for frame, own in zip(SPIKES, totals, strict=True):
        output, state = network.advance(network.encode(frame), state)
        torch.testing.assert_close(output, own)


def test_what_no_core_holds_is_listed_at_once(make_snn: MakeSnn) -> None:
    assert violations(chain(make_snn, FlooredNeuron())) == ""
    assert "Speck sees spikes, and this network images" in violations(chain(make_snn, FlooredNeuron()), SPIKES[0])
    assert "Speck sees spikes" in violations(chain(make_snn, FlooredNeuron()), SPIKES / 2)
    said = violations(chain(make_snn, FlooredNeuron(), channels=1030))
    assert "n2: 1030 features, and Speck has 1024" in said
    assert "n2: 65,536 words of weights" not in said
    assert "131,072 words of weights and 16,480 of membranes" in said
    assert "sinabs fires no negative spikes" in violations(chain(make_snn, IFNeuron(signed=True)))
    assert "sinabs fires as often as the membrane holds" in violations(chain(make_snn, IFNeuron(0.1)))


def test_a_network_with_joins_is_refused(make_snn: MakeSnn) -> None:
    snn = chain(make_snn, FlooredNeuron())
    nodes = [node for node in snn.network.graph if node.name not in ("n2", "flat", "head")]
    short = Conv2d(torch.ones(6, 4, 1, 1))
    nodes += [
        Node("short", short, ("pool",)),
        Node("sum", Add(), ("c2", "short")),
        Node("n2", FlooredNeuron(), ("sum",)),
    ]
    nodes += [node for node in snn.network.graph if node.name in ("flat", "head")]
    joined = replace(snn, network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False))
    assert "nirtorch runs it before all that it adds is there" in violations(joined)
    assert "n2: a chip adds up one layer of weights here" in Rounded(Plan(joined.network)).problems[0]


def test_without_sinabs_it_is_one_clear_error(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = chain(make_snn, FlooredNeuron())
    with pytest.raises(UnsupportedError, match=r"the reader sinabs is not installed for .*seenn\[sinabs\]"):
        snn.export(tmp_path / "snn", to="speck", images=SPIKES, reader=f"sinabs={bare(tmp_path)}")
    with pytest.raises(ValueError, match=r"unknown reader '.*' of speck\. Choose one of sinabs"):
        snn.export(tmp_path / "snn", to="speck", images=SPIKES, reader="norse")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]
