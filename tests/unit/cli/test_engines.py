"""``--engine`` in the commands that run networks, and ``seenn bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cli.errors import Failure
from cli.main import seenn
from seenn.analysis.bench import timing
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AvgPool2d, Conv2d, Flatten, IFNeuron, LIFNeuron, Linear
from seenn.core.ops.neuron import Neuron
from seenn.core.ops.prepass import PrepassIFNeuron
from seenn.data import load_data
from seenn.exits import ConfidenceExit
from seenn.snn import SNN


def write(path: Path, neuron: Neuron) -> str:
    """A small network for the digits; what it answers does not matter here."""
    random = torch.Generator().manual_seed(0)
    nodes = [
        Node("conv1", Conv2d(torch.randn(4, 1, 3, 3, generator=random) / 3, padding=1), (INPUT,)),
        Node("relu1", IFNeuron(0.5, signed=True, max_spikes=4), ("conv1",)),
        Node("conv2", Conv2d(torch.randn(4, 4, 3, 3, generator=random) / 6, padding=1), ("relu1",)),
        Node("relu2", neuron, ("conv2",)),
        Node("pool", AvgPool2d(kernel=4, stride=4), ("relu2",)),
        Node("flat", Flatten(), ("pool",)),
        Node("head", Linear(torch.randn(10, 16, generator=random)), ("flat",)),
    ]
    splits = load_data("digits")
    manifest = {"timesteps": 4, "source": {"name": "tiny"}, "data": splits.manifest()}
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False)
    policy = ConfidenceExit(threshold=0.3)
    SNN(network=network, preprocessing=splits.preprocessing, manifest=manifest, policy=policy).save(path)
    return str(path)


@pytest.fixture(scope="module")
def snn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("snn") / "snn.safetensors", IFNeuron(0.5, max_spikes=2))


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("lif") / "lif.safetensors", LIFNeuron(0.5))


def run(*arguments: str) -> tuple[dict[str, Any], str]:
    done = CliRunner().invoke(seenn, [*arguments, "--json"], catch_exceptions=False, standalone_mode=False)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("engine", ["auto", "int8", "float32", "reference"])
def test_evaluate_names_the_engine_that_ran(engine: str, snn: str, tmp_path: Path) -> None:
    answer, talk = run("evaluate", snn, "--engine", engine, "--limit", "40", "--report", str(tmp_path / "report"))
    ran = "int8" if engine == "auto" else engine
    assert (answer["engine"]["name"], answer["engine"]["exact"]) == (ran, ran == "int8")
    assert f"engine: {ran} (" in talk
    assert answer["samples"] == sum(answer["exit_histogram"]) == 40
    assert 1 <= answer["mean_timesteps"] <= 4


def test_predict_gives_the_same_answer_alone_and_in_company(snn: str, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        files.append(str(tmp_path / f"{number}.png"))
    together, _ = run("predict", snn, *files, "--engine", "int8")
    for number, file in enumerate(files):
        alone, _ = run("predict", snn, file, "--engine", "int8", "--float-sites", "")
        assert alone["predictions"] == [together["predictions"][number]]


def test_auto_says_why_a_network_is_not_run_in_integers(leaky: str, tmp_path: Path) -> None:
    answer, talk = run("evaluate", leaky, "--engine", "auto", "--limit", "8", "--report", str(tmp_path / "report"))
    assert answer["engine"]["name"] == "float32"
    assert "relu2 (lif_neuron): its state does not stay on a fixed-point scale" in talk
    with pytest.raises(Failure, match="1 nodes have no exact integer form: relu2"):
        run("evaluate", leaky, "--engine", "int8", "--limit", "8", "--report", str(tmp_path / "report"))


def test_unknown_float_sites_are_wrong_usage(snn: str) -> None:
    done = CliRunner().invoke(seenn, ["evaluate", snn, "--engine", "int8", "--float-sites", "conv9"])
    assert done.exit_code == 2
    assert "there are no layers conv9 to keep in float: choose from conv1, conv2, head" in done.stderr


def test_bench_measures_the_network_beside_its_ann(snn: str, tmp_path: Path) -> None:
    more = ("--per-site", "--per-layer", "16", "--report", str(tmp_path / "report"))
    found, _ = run("bench", snn, "--limit", "64", "--slots", "8", "--repeats", "1", *more)
    assert [loss["layer"] for loss in found["per_layer"]] == ["(none)", "conv1", "conv2", "head", "(all)"]
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written == {"bench.md", "bench.json", "pages.json", "report.html", "growth.png", "speed.png"}
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert set(found["latency_ms"]) >= {"int8", "torch float32", "onnxruntime float32", "onnxruntime int8"}
    assert "images/s with exits / fastest float32 ANN" in found["ratios"]
    assert "accuracy points lost against float32, with exits" in found["ratios"]
    assert {site["name"] for site in found["per_site"]} >= {"relu1", "relu2", "output"}


def test_bench_has_no_layers_in_int8_where_the_network_has_no_integer_form(leaky: str) -> None:
    with pytest.raises(Failure, match="1 nodes have no exact integer form: relu2"):
        run("bench", leaky, "--limit", "64", "--per-layer", "16")


def test_bench_wants_the_model_that_weights_belong_to(snn: str) -> None:
    done = CliRunner().invoke(seenn, ["bench", snn, "--ckpt", "ann.pth"])
    assert done.exit_code == 2
    assert "--ckpt gives the weights of --ann: name the model too" in done.stderr


def test_bench_measures_a_network_with_initial_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    file = write(tmp_path / "cos.safetensors", PrepassIFNeuron(0.5, prepass=3, rule="cos"))
    found, _ = run("bench", file, "--limit", "64", "--slots", "8", "--repeats", "1", "--device", "cpu")
    assert 4 <= found["mean_timesteps"] <= 7
    assert set(found["latency_ms"]) >= {"reference", "torch float32"}
    assert "float32 is left out: this engine does not run the initial steps" in "\n".join(found["notes"])
