"""``onnx-qdq``: a quantised ANN that answers as the network does after T steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch

from seenn.core.ops import LIFNeuron
from seenn.errors import ExportError, UnsupportedError
from seenn.export.exporter import random_inputs

from .conftest import MakeSnn
from .test_onnx import NEURONS, run, several


def test_every_neuron_is_a_quantiser(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(several("burst", "signed", "leaky relu"), timesteps=32)
    found = snn.export(tmp_path / "snn.onnx", to="onnx-qdq")
    (share,) = found.compared["agreement"].values()
    assert share == 1
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "snn.onnx").graph.node)
    assert kinds["QuantizeLinear"] == 3
    assert kinds["DequantizeLinear"] == 3 + 4  # and the weights of four layers
    images = random_inputs(snn, 32, 40).inputs
    logits = torch.as_tensor(run(tmp_path / "snn.onnx", images.numpy())["logits"])
    expected = snn.network(images, 32)
    assert float((logits - expected).norm() / expected.norm()) < 0.1


def test_a_network_that_is_not_its_quantised_ann_is_refused_with_the_figure(make_snn: MakeSnn, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"[\d.]+% of 14 labels are those of the network after 2 steps, expected 99%"):
        make_snn(NEURONS["if"], timesteps=2).export(tmp_path / "snn.onnx", to="onnx-qdq")
    assert not list(tmp_path.iterdir())


def test_neurons_that_stand_for_no_activation_are_named(make_snn: MakeSnn, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"block\.act1 \(lif\) stands for no activation.*act3 \(lif\)"):
        make_snn(LIFNeuron).export(tmp_path / "snn.onnx", to="onnx-qdq")
