"""``onnx-qdq``: a quantised ANN that answers as the network does after T steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    Conv2d,
    Encoder,
    Flatten,
    IFNeuron,
    IntegratingNeuron,
    LeakyReLUNeuron,
    LIFNeuron,
    Linear,
    QuantiserNeuron,
)
from seenn.errors import ExportError, UnsupportedError
from seenn.export.exporter import FORMATS, random_inputs

from .conftest import MakeSnn
from .test_onnx import NEURONS, run, several, subject_of


def test_every_neuron_is_a_quantiser(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(several("burst", "signed", "leaky relu"), timesteps=32)
    found = snn.export(tmp_path / "snn.onnx", to="onnx-qdq")
    assert found.compared["images"] == 100
    assert min(found.compared["agreement"].values()) >= 0.99
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "snn.onnx").graph.node)
    assert kinds["QuantizeLinear"] == 3
    assert kinds["DequantizeLinear"] == 3 + 3  # and the weights of the layers that do not read the image itself
    images = random_inputs(snn, 32, 40).inputs
    logits = torch.as_tensor(run(tmp_path / "snn.onnx", images.numpy())["logits"])
    expected = snn.network(images, 32)
    assert float((logits - expected).norm() / expected.norm()) < 0.1


BIAS, THETA = torch.tensor([0.05, -0.07, 0.02]), torch.tensor([0.5, 0.8, 1.1])
STANDING: dict[str, IntegratingNeuron] = {
    "if": IFNeuron(THETA, bias=BIAS),
    "ReLU6": IFNeuron(THETA, ceiling=1.0, max_spikes=4),
    "QCFS": IFNeuron(THETA, levels=3),
    "signed": IFNeuron(THETA, signed=True, max_spikes=2, bias=BIAS),
    "leaky": LeakyReLUNeuron(THETA, slope=torch.tensor([0.1, 0.2, -0.3]), max_spikes=3, bias=BIAS),
    "encoder": Encoder(THETA, max_spikes=15, bias=BIAS),
    "quantiser": QuantiserNeuron(0.1 * THETA * 8, scale=0.1 * THETA, low=-5, high=7, max_spikes=2),
    "one-sided quantiser": QuantiserNeuron(THETA, scale=0.1 * THETA, low=0, high=9, max_spikes=3),
    "charged": IFNeuron(THETA, torch.tensor([0.0, 0.3, 0.9]), max_spikes=2),
}


@pytest.mark.parametrize("name", STANDING)
def test_a_quantiser_gives_the_mean_output_of_its_neuron(name: str, make_snn: MakeSnn, tmp_path: Path) -> None:
    nodes = [
        Node("spread", Conv2d(torch.ones(3, 1, 1, 1)), (INPUT,)),
        Node("act", STANDING[name], ("spread",)),
        Node("flat", Flatten(), ("act",)),
        Node("head", Linear(torch.eye(192)), ("flat",)),
    ]
    snn = replace(make_snn(timesteps=8), network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval())
    images = torch.linspace(-9.1, 9.3, 7 * 64)[torch.randperm(7 * 64, generator=torch.Generator().manual_seed(0))]
    images = images.view(7, 1, 8, 8)
    subject = replace(subject_of(snn), batch=Batch.of(images, (1, 8, 8)), timesteps=8)
    FORMATS.get("onnx-qdq").write(subject, tmp_path / "snn.onnx")
    logits = torch.as_tensor(run(tmp_path / "snn.onnx", images.numpy())["logits"])
    assert torch.allclose(logits, snn.network(images, 8), atol=1e-5)


def test_values_that_are_no_images_have_one_scale(make_snn: MakeSnn, tmp_path: Path) -> None:
    theta = torch.linspace(0.2, 1.5, 64)
    nodes = [
        Node("flat", Flatten(), (INPUT,)),
        Node("spread", Linear(torch.eye(64)), ("flat",)),
        Node("act", IFNeuron(theta, max_spikes=3), ("spread",)),
        Node("head", Linear(torch.eye(64)), ("act",)),
    ]
    snn = replace(make_snn(timesteps=8), network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval())
    FORMATS.get("onnx-qdq").write(replace(subject_of(snn), timesteps=8), tmp_path / "snn.onnx")
    graph = onnx.load(tmp_path / "snn.onnx").graph
    (name,) = {node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert [list(each.dims) for each in graph.initializer if each.name == name] == [[]]
    images = subject_of(snn).batch.inputs
    logits = torch.as_tensor(run(tmp_path / "snn.onnx", images.numpy())["logits"])
    assert float((logits - snn.network(images, 8).detach()).abs().max()) <= 3 * 1.5 / 255 / 2 + 1e-5


def test_a_network_that_is_not_its_quantised_ann_is_refused_with_the_figure(make_snn: MakeSnn, tmp_path: Path) -> None:
    refusal = (
        r"[\d.]+% of 100 labels are those of the network after 2 steps, expected 99% "
        r"\(its ANN in float: [\d.]+%\): spikes come too unevenly"
    )
    with pytest.raises(ExportError, match=refusal):
        make_snn(NEURONS["if"], timesteps=2).export(tmp_path / "snn.onnx", to="onnx-qdq")
    assert not list(tmp_path.iterdir())


def test_neurons_that_stand_for_no_activation_are_named(make_snn: MakeSnn, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"block\.act1 \(lif\), .*act3 \(lif\): stands for no activation"):
        make_snn(LIFNeuron).export(tmp_path / "snn.onnx", to="onnx-qdq")


def test_a_reader_can_be_chosen(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(NEURONS["burst"], timesteps=32)
    assert "OpenVINO" not in snn.export(tmp_path / "snn.onnx", to="onnx-qdq", reader="onnxruntime").reader
    with pytest.raises(ValueError, match=r"unknown reader 'norse' of onnx-qdq\. Choose one of onnxruntime, openvino"):
        snn.export(tmp_path / "snn.onnx", to="onnx-qdq", reader="norse")
