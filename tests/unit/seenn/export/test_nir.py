"""``nir``: thresholds in the weights, other dynamics refused by node, and the file run by its reader."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nir
import pytest
import torch
from torch import Tensor

import seenn
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    Add,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ElementwiseAffine,
    Flatten,
    IFNeuron,
    LIFNeuron,
    Linear,
    Neuron,
)
from seenn.core.ops.leaky_sum import LeakySum
from seenn.errors import CheckpointError, ExportError, UnsupportedError
from seenn.export.exporter import FORMATS, ExportOptions, Subject
from seenn.export.nir_plan import Plan
from seenn.snn import SNN

from .conftest import MakeSnn
from .test_onnx import NEURONS, subject_of

pytestmark = pytest.mark.usefixtures("forked_readers")


def chain(make_snn: MakeSnn, neuron: Callable[[float | Tensor], Neuron]) -> SNN:
    """Without joins: a grouped convolution, pooling, a normalisation and linear layers."""
    random = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    nodes = [
        Node("c1", Conv2d(weight(4, 1, 3, 3) / 2, weight(4) / 4, padding=1), (INPUT,)),
        Node("bn", BatchNorm(weight(4) / 8, weight(4).abs() + 1, weight(4).abs() + 0.5, weight(4) / 4), ("c1",)),
        Node("n1", neuron(torch.tensor([0.5, 0.6, 0.7, 0.8])), ("bn",)),
        Node("pool", AvgPool2d(2, 2), ("n1",)),
        Node("c2", Conv2d(weight(6, 2, 3, 3) / 2, weight(6) / 4, padding=1, groups=2), ("pool",)),
        Node("n2", neuron(0.9), ("c2",)),
        Node("flat", Flatten(), ("n2",)),
        Node("l1", Linear(weight(8, 96) / 5), ("flat",)),
        Node("n3", neuron(0.7), ("l1",)),
        Node("head", Linear(weight(3, 8), weight(3)), ("n3",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False)
    return replace(make_snn(pooling="average"), network=network)


def violations(snn: SNN, reader: str) -> str:
    """What stands in the way."""
    subject = replace(subject_of(snn), options=ExportOptions(reader=reader))
    return "; ".join(FORMATS.get("nir").violations(subject))


def test_thresholds_are_in_the_weights(make_snn: MakeSnn) -> None:
    snn = chain(make_snn, IFNeuron)
    plan = Plan(snn.network)
    assert not plan.problems
    assert [kind for kind, _ in plan.nodes.values()] == [
        "Input", "Conv2d", "IF", "SumPool2d", "Conv2d", "IF", "Conv2d", "IF", "Conv2d", "Output"
    ]  # fmt: skip
    weight = plan.nodes["n2_conv2d"][1]["weight"]  # θ of n1 over θ of n2, a quarter for the pool's four
    dense = torch.zeros(6, 4, 3, 3)
    c2 = snn.network.graph["c2"].op
    assert isinstance(c2, Conv2d)
    dense[:3, :2], dense[3:, 2:] = c2.weight[:3], c2.weight[3:]
    torch.testing.assert_close(weight, dense * torch.tensor([0.5, 0.6, 0.7, 0.8]).view(1, 4, 1, 1) / 4 / 0.9)


def test_everything_that_a_reader_has_not_is_named_at_once(make_snn: MakeSnn) -> None:
    assert violations(make_snn(), "any") == (
        "pool: NIR has no max pooling: use average pooling and train again, or --to onnx"
    )
    said = violations(make_snn(pooling="average"), "snntorch")
    assert said.count("version 1.0.0 reads IF as a leaky neuron with a decay of 0.9") == 3
    said = violations(make_snn(NEURONS["signed"], pooling="average"), "sinabs")
    assert said.count("fires no negative spikes: convert with --neuron if or burst") == 3
    said = violations(chain(make_snn, IFNeuron), "sinabs")
    assert re.search(
        r"n1 \(\d+ times\): sinabs fires as often as the membrane holds, and the network at most 1: convert", said
    )
    assert "its LIF resets by subtraction only" in violations(chain(make_snn, LIFNeuron), "sinabs")


@pytest.mark.parametrize("shape", [(4, 8, 8), (8, 8), (1, 8, 8), (8,), (4, 1, 1), (1,)])
def test_factors_that_are_no_number_for_each_channel_are_named(shape: tuple[int, ...]) -> None:
    nodes = [
        Node("c1", Conv2d(torch.ones(4, 1, 3, 3), torch.ones(4), padding=1), (INPUT,)),
        Node("mul", ElementwiseAffine(torch.rand(shape) + 1, torch.rand(shape)), ("c1",)),
        Node("n1", IFNeuron(0.5), ("mul",)),
        Node("flat", Flatten(), ("n1",)),
        Node("head", Linear(torch.ones(3, 256)), ("flat",)),
    ]
    plan = Plan(SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False))
    expected = "mul: factors or summands that are no number for each channel: use --to onnx"
    assert plan.problems == ([] if shape in ((4, 1, 1), (1,)) else [expected])


def shortcut(make_snn: MakeSnn, *, layer: bool) -> SNN:
    """A block whose shortcut has a layer of its own, or none."""
    weight = torch.eye(4)[:, :, None, None]
    short = [Node("short", Conv2d(weight), ("n1",))] if layer else []
    nodes = [
        Node("c1", Conv2d(torch.ones(4, 1, 3, 3), padding=1), (INPUT,)),
        Node("n1", LIFNeuron(0.5), ("c1",)),
        *short,
        Node("c2", Conv2d(weight), ("n1",)),
        Node("add", Add(), ("c2", "short" if layer else "n1")),
        Node("n2", LIFNeuron(0.5), ("add",)),
        Node("flat", Flatten(), ("n2",)),
        Node("head", Linear(torch.ones(3, 256)), ("flat",)),
    ]
    return replace(make_snn(), network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False))


def test_joins_are_refused_where_the_reader_runs_them_too_early(make_snn: MakeSnn) -> None:
    assert violations(shortcut(make_snn, layer=False), "norse") == ""
    assert violations(shortcut(make_snn, layer=True), "norse") == (
        "n2: nirtorch runs it before all that it adds is there: use shortcuts without layers"
    )


@pytest.mark.parametrize("neuron", ["if", "burst", "signed", "lif", "soft lif", "floored"])
def test_what_was_written_for_any_reader_is_read_back(make_snn: MakeSnn, neuron: str, tmp_path: Path) -> None:
    snn = chain(make_snn, NEURONS[neuron])
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    snn.export(tmp_path / "net-nir", to="nir", images=images)
    expected = snn.predict(images, engine="reference")
    for place in ("net-nir", "net-nir/network.nir"):
        found = seenn.load(tmp_path / place)
        assert (found.policy, found.preprocessing, found.timesteps) == (snn.policy, snn.preprocessing, snn.timesteps)
        assert found.class_names == snn.class_names
        answers = found.predict(images, engine="reference")
        assert torch.equal(answers.labels, expected.labels)
        assert torch.equal(answers.exit_timestep, expected.exit_timestep)
        torch.testing.assert_close(answers.logits_sum, expected.logits_sum, rtol=1e-4, atol=1e-4)
    (tmp_path / "net-nir" / "network.json").write_text('{"sites": {"n1": {"node": "n1", "charge": "x"}}}')
    with pytest.raises(CheckpointError, match=r"network\.json is damaged .*: export it again"):
        seenn.load(tmp_path / "net-nir", dialect="any")
    (tmp_path / "net-nir" / "network.json").write_text('{"sites": {}, "reader": "spinnaker2"}')
    with pytest.raises(ValueError, match="was written for 'spinnaker2', and is read back for any, norse"):
        seenn.load(tmp_path / "net-nir")
    (tmp_path / "net-nir" / "network.json").unlink()
    assert len(seenn.load(tmp_path / "net-nir", dialect="any").network.sites) == 3
    (tmp_path / "net-nir" / "network.nir").unlink()
    with pytest.raises(CheckpointError, match=r"net-nir is a folder without network\.nir: give a file of seenn's"):
        seenn.load(tmp_path / "net-nir")


def test_readers_that_are_not_known_are_refused(make_snn: MakeSnn, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown reader 'brian' of nir\. Choose one of any, norse, sinabs"):
        chain(make_snn, LIFNeuron).export(tmp_path / "snn", to="nir", reader="brian")
    assert not list(tmp_path.iterdir())


def test_a_python_without_the_reader_is_one_clear_error(make_snn: MakeSnn, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"the reader norse is not installed for .*seenn\[norse\]"):
        chain(make_snn, LIFNeuron).export(tmp_path / "snn", to="nir", reader=f"norse={bare(tmp_path)}")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


@pytest.mark.parametrize("python", ["nowhere/python", ".", "file"])
def test_a_python_that_cannot_be_run_is_named(python: str, make_snn: MakeSnn, tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o644)
    said = f"{re.escape(str(tmp_path / python))} cannot be run .*give the Python that has norse, --reader norse="
    with pytest.raises(UnsupportedError, match=said):
        chain(make_snn, LIFNeuron).export(tmp_path / "snn", to="nir", reader=f"norse={tmp_path / python}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def bare(folder: Path) -> Path:
    """A Python that finds no packages."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    script.chmod(0o755)
    return script


def test_a_reader_that_gives_other_shapes_is_one_clear_error(make_snn: MakeSnn, tmp_path: Path) -> None:
    script = tmp_path / "python"
    damage = (
        "import sys, numpy as n; p = sys.argv[1] + '/found.npz'; f = dict(n.load(p)); f['logits'] = f['logits'][:1]"
    )
    script.write_text(f'#!/bin/sh\n{sys.executable} "$@" && {sys.executable} -c "{damage}; n.savez(p, **f)" "$5"\n')
    script.chmod(0o755)
    with pytest.raises(ExportError, match=r"gives logits of shape \[1, 14, 3, 1, 1\], expected \[4, 14, 3\]: it reads"):
        chain(make_snn, LIFNeuron).export(tmp_path / "snn", to="nir", reader=f"any={script}")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


@pytest.mark.parametrize("name", ["burst", "signed", "lif", "soft lif", "floored"])
def test_the_rules_beside_the_file_give_the_networks_spikes(name: str, make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn(NEURONS[name], pooling="average")
    found = snn.export(tmp_path / "snn", to="nir")
    assert found.compared["images_compared_to_the_end"] == 14
    assert found.compared["ties"] == 0
    about = json.loads((tmp_path / "snn" / "network.json").read_text())
    assert about["policy"]["policy"] == "confidence"
    assert json.loads(nir.read(tmp_path / "snn" / "network.nir").metadata["seenn"])["timesteps"] == 4
    file = tmp_path / "snn" / "network.nir"
    file.write_bytes(file.read_bytes()[:2000])
    subject: Subject = subject_of(snn)
    with pytest.raises(ExportError, match="any cannot run what was written"):
        FORMATS.get("nir").verify(subject, tmp_path / "snn")


def test_int8_layers_with_delays_fire_as_the_rounded_network(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = bare_chain(make_snn)
    frames = (torch.rand(6, 5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    found = snn.export(tmp_path / "snn", to="nir", images=frames, timesteps=6, reader="spinnaker2")
    assert found.reader.startswith("the published rules of s2_nir")
    assert (found.compared["differences"], found.compared["agreement"]) == (0, 1.0)
    assert found.compared["spikes"] == 6 * 5 * (4 * 64 + 6 * 16)
    graph = nir.read(tmp_path / "snn" / "network.nir")
    assert {float(node.v_threshold.max()) % 1 for name, node in graph.nodes.items() if name in ("n1", "n2")} == {
        1 - 2**-4
    }
    scores = json.loads((tmp_path / "snn" / "network.json").read_text())["scores"]
    assert (scores["node"], scores["depth"]) == ("scores", 3)


def test_what_int8_layers_with_delays_cannot_have_is_named(make_snn: MakeSnn) -> None:
    said = violations(chain(make_snn, NEURONS["burst"]), "spinnaker2")
    assert "spinnaker2 sees single spikes, and this network other inputs: train it with --encoding poisson" in said
    assert "a bias, which acts there before the spikes of its layer arrive: train layers without biases" in said
    assert said.count("fires once a step, without a floor: train with --neuron if") == 3


def bare_chain(make_snn: MakeSnn) -> SNN:
    """Binary neurons that start empty, and layers without biases, whose weights int8 holds as they are."""
    random = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randint(-31, 32, shape, generator=random) / 32

    nodes = [
        Node("c1", Conv2d(weight(4, 1, 3, 3), padding=1), (INPUT,)),
        Node("n1", IFNeuron(1.0, 0.0), ("c1",)),
        Node("pool", AvgPool2d(2, 2), ("n1",)),
        Node("c2", Conv2d(weight(6, 4, 3, 3), padding=1), ("pool",)),
        Node("n2", IFNeuron(1.0, 0.0), ("c2",)),
        Node("flat", Flatten(), ("n2",)),
        Node("head", Linear(weight(3, 96)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False)
    return replace(make_snn(pooling="average"), network=network)


def test_a_current_that_decays_has_a_way_out(make_snn: MakeSnn) -> None:
    nodes = [
        Node("current", LeakySum(decay=0.5), (INPUT,)),
        Node("n1", LIFNeuron(0.5), ("current",)),
        Node("flat", Flatten(), ("n1",)),
        Node("head", Linear(torch.ones(3, 64)), ("flat",)),
    ]
    snn = replace(make_snn(), network=SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval())
    assert re.search(r"current: NIR has no leaky_sum: .*; use --to onnx", violations(snn, "any"))
