"""``onnx`` and ``onnx-step``: what is written runs in onnxruntime as the network does, and stops as it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Add, Encoder, Flatten, FlooredNeuron, IFNeuron, LIFNeuron, Linear, Neuron
from seenn.core.ops.leaky_relu_neuron import LeakyReLUNeuron
from seenn.core.ops.prepass import PrepassIFNeuron
from seenn.errors import ExportError, UnsupportedError
from seenn.exits import make_rule
from seenn.exits.rules.scaled import ScaledConfidenceExit
from seenn.export.exporter import FORMATS, ExportOptions, Subject, export, random_inputs
from seenn.snn import SNN

from .conftest import MakeSnn

NEURONS: dict[str, Any] = {
    "if": IFNeuron,
    "burst": lambda theta: IFNeuron(theta, max_spikes=4),
    "signed": lambda theta: IFNeuron(theta, max_spikes=3, signed=True),
    "leaky relu": lambda theta: LeakyReLUNeuron(theta, max_spikes=4, slope=0.1),
    "encoder": lambda theta: Encoder(theta, max_spikes=15),
    "lif": lambda theta: LIFNeuron(theta, decay=0.5),
    "soft lif": lambda theta: LIFNeuron(theta, decay=0.5, v_reset=None),
    "floored": lambda theta: FlooredNeuron(theta, max_spikes=5),
    "cos": lambda theta: PrepassIFNeuron(theta, prepass=1, rule="cos"),
    "srp": lambda theta: PrepassIFNeuron(theta, prepass=1, rule="srp"),
}
RULES: dict[str, Any] = {
    "confidence": {"threshold": 0.8},
    "entropy": {"threshold": 0.5},
    "gap": {"threshold": 1.5},
    "fixed": {"threshold": 2},
    "patience": {"threshold": 2},
    "scaled": {"threshold": 0.6},
    "conformal": {},
    "failure": {"threshold": 0.9},
    "two-sided": {"threshold": 0.8},
}


@pytest.fixture
def make_tiny(make_snn: MakeSnn) -> MakeSnn:
    """Neurons that read the image themselves, and a linear layer: the compiler has little to follow."""
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    nodes = [
        Node("act", IFNeuron(0.3), (INPUT,)),
        Node("flat", Flatten(), ("act",)),
        Node("head", Linear(3 * weight), ("flat",)),
    ]

    def make(**options: Any) -> SNN:
        network = SpikingNetwork(OpGraph(nodes, "head"), (1, 2, 2))
        return replace(make_snn(**options), network=network, preprocessing=None)

    return make


def run(path: Path, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """With nothing but onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def several(*names: str) -> Callable[[float | Tensor], Neuron]:
    """Another kind at every site."""
    kinds = iter(names)
    return lambda theta: NEURONS[next(kinds)](theta)


@pytest.mark.parametrize(
    "names",
    [
        ("burst", "signed", "leaky relu"),
        ("if", "lif", "soft lif"),
        ("cos", "srp", "cos"),
        ("encoder", "floored", "encoder"),
    ],
)
def test_every_neuron_runs_in_a_loop(names: tuple[str, ...], make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(several(*names))
    found = snn.export(tmp_path / "snn.onnx", to="onnx")
    images = random_inputs(snn, 4, 20).inputs
    expected = snn.predict(images, engine="reference")
    answers = run(tmp_path / "snn.onnx", images.numpy())
    assert answers["labels"].tolist() == expected.labels.tolist()
    assert answers["exit_timestep"].tolist() == expected.exit_timestep.tolist()
    np.testing.assert_allclose(answers["confidence"], expected.confidence.numpy(), atol=1e-5)
    means = expected.logits_sum / expected.exit_timestep[:, None]
    np.testing.assert_allclose(answers["logits"], means.numpy(), atol=1e-5)
    assert found.compared["labels_and_exits_equal"] == 14
    assert found.compared["spikes"] > 0


@pytest.mark.parametrize("name", RULES)
def test_every_exit_rule_is_the_condition_of_the_loop(name: str, make_tiny: MakeSnn, tmp_path: Path) -> None:
    snn = make_tiny(policy=make_rule(name, **RULES[name]), timesteps=6)
    snn.export(tmp_path / "snn.onnx", to="onnx")
    images = random_inputs(snn, 6, 30).inputs
    expected = snn.predict(images, engine="reference").exit_timestep.tolist()
    assert run(tmp_path / "snn.onnx", images.numpy())["exit_timestep"].tolist() == expected


def test_thresholds_for_every_step_are_exported(make_tiny: MakeSnn, tmp_path: Path) -> None:
    snn = make_tiny(policy=ScaledConfidenceExit(threshold=(0.9, 0.5, 0.8), temperatures=(0.5, 0.6, 0.7, 0.8)))
    snn.export(tmp_path / "snn.onnx", to="onnx")
    images = random_inputs(snn, 4, 30).inputs
    expected = snn.predict(images, engine="reference").exit_timestep.tolist()
    assert len(set(expected)) > 1
    assert run(tmp_path / "snn.onnx", images.numpy())["exit_timestep"].tolist() == expected


def test_the_loop_ends_when_the_last_image_is_done(make_tiny: MakeSnn, tmp_path: Path) -> None:
    snn = make_tiny(policy=make_rule("fixed", threshold=2))
    snn.export(tmp_path / "snn.onnx", to="onnx")
    model = onnx.load(tmp_path / "snn.onnx")
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    loop.output.append("ran")
    body = loop.attribute[0].g
    body.output.append(onnx.helper.make_tensor_value_info(body.output[2].name, onnx.TensorProto.BOOL, None))
    model.graph.output.append(onnx.helper.make_tensor_value_info("ran", onnx.TensorProto.BOOL, None))
    onnx.save(model, tmp_path / "watched.onnx")
    assert len(run(tmp_path / "watched.onnx", random_inputs(snn, 4, 3).inputs.numpy())["ran"]) == 2


def test_raw_pixels_are_prepared_inside(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn()
    snn.export(tmp_path / "snn.onnx", to="onnx", raw_pixels=True)
    pixels = torch.randint(0, 256, (9, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    expected = snn.predict(pixels.permute(0, 3, 1, 2), engine="reference")
    answers = run(tmp_path / "snn.onnx", pixels.numpy())
    assert answers["labels"].tolist() == expected.labels.tolist()
    assert answers["exit_timestep"].tolist() == expected.exit_timestep.tolist()


def test_a_host_that_loops_gets_the_networks_steps(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(NEURONS["signed"])
    found = snn.export(tmp_path / "snn", to="onnx-step")
    about = json.loads((tmp_path / "snn" / "network.json").read_text())
    images = random_inputs(snn, 4, 5).inputs
    values = run(tmp_path / "snn" / "encode.onnx", images.numpy())
    session = onnxruntime.InferenceSession(str(tmp_path / "snn" / "step.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    total = np.zeros((5, 3), np.float32)
    for _ in range(about["timesteps"]):
        step = dict(zip(names, session.run(None, values), strict=True))
        total += step["logits"]
        values |= {state["input"]: step[state["output"]] for state in about["states"]}
    np.testing.assert_allclose(total / 4, snn.network(images, 4).numpy(), atol=1e-5)
    assert set(about["spikes"]) == {"spikes.block.act1", "spikes.block.act2", "spikes.act3"}
    assert found.compared["ties"] == 0


def test_frames_over_time_go_to_the_host_that_loops(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(pooling="average")
    frames = torch.randn(4, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    snn.export(tmp_path / "snn", to="onnx-step", images=frames)
    with pytest.raises(UnsupportedError, match=r"one frame a timestep, .*: use --to onnx-step"):
        snn.export(tmp_path / "snn.onnx", to="onnx", images=frames)
    assert not (tmp_path / "snn.onnx").exists()


def tampered(path: Path, name: str) -> None:
    """The file with a threshold a hundredth higher."""
    model = onnx.load(path)
    (found,) = (tensor for tensor in model.graph.initializer if name in tensor.name)
    found.CopyFrom(numpy_helper.from_array(np.float32(1.01) * numpy_helper.to_array(found), found.name))
    onnx.save(model, path)


def subject_of(snn: SNN) -> Subject:
    """As ``export`` makes it."""
    assert snn.policy
    batch = random_inputs(snn, 4)
    return Subject(snn=snn, network=snn.network, policy=snn.policy, timesteps=4, batch=batch, options=ExportOptions())


def test_a_file_with_other_thresholds_is_not_taken_for_the_network(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn()
    with torch.no_grad():
        for name in ("onnx", "onnx-step"):
            path = tmp_path / name
            export(snn, path, name)
            tampered(path if name == "onnx" else path / "step.onnx", "block_act2_.v_threshold")
            with pytest.raises(ExportError, match=r"fires otherwise: \d+ of \d+ neurons at block\.act2 in step 1"):
                FORMATS.get(name).verify(subject_of(snn), path)


def test_a_truncated_file_is_one_clear_error(make_tiny: MakeSnn, tmp_path: Path) -> None:
    snn = make_tiny()
    path = tmp_path / "snn.onnx"
    snn.export(path, to="onnx")
    path.write_bytes(path.read_bytes()[:-100])
    with torch.no_grad(), pytest.raises(ExportError, match="cannot load what was written"):
        FORMATS.get("onnx").verify(subject_of(snn), path)


class _Stubborn(Add):
    """An op that turns the number of images into a number of Python's."""

    kind = "stubborn"

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return inputs[0] * (len(inputs[0]) / len(inputs[0]))


def test_what_the_compiler_cannot_follow_is_refused_and_nothing_is_left(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn()
    graph = snn.network.graph.replace({"block.add": _Stubborn()})
    broken = SNN(network=type(snn.network)(graph, (1, 8, 8)), preprocessing=snn.preprocessing, policy=snn.policy)
    with pytest.raises(UnsupportedError, match=r"torch.export cannot follow the network.*len\(x\) being x.shape\[0\]"):
        broken.export(tmp_path / "snn.onnx", to="onnx")
    assert not list(tmp_path.iterdir())
