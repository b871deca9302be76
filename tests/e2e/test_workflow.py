"""The main job through the console script: train, convert, calibrate the exit, evaluate, predict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Shell = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """An empty folder in which the commands of the front page have just been typed, for a narrow network."""
    folder = tmp_path_factory.mktemp("work")
    for command, answer in (
        (
            "train-ann --model resnet18 --model-kwargs channels=(8,16,32,64) --epochs 5",
            "next: seenn convert --model resnet18 --ckpt ann.pth\n",
        ),
        ("convert --model resnet18 --ckpt ann.pth", "next: seenn calibrate-exit --threshold 0.95\n"),
        ("calibrate-exit --threshold 0.95", "next: seenn evaluate\n"),
    ):
        done = shell(folder, *command.split())
        assert done.code == 0, done.err
        assert done.out.endswith(answer)
        assert all(len(line) <= 80 for line in done.out.splitlines())
        assert "Traceback" not in done.err
    assert {path.name for path in folder.iterdir()} == {"ann.pth", "snn.safetensors", "seenn-report"}
    return folder


def test_evaluate_answers_with_one_json_object_and_a_report(folder: Path, shell: Shell) -> None:
    done = shell(folder, "evaluate", "--json")
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert {"accuracy", "mean_timesteps", "accuracy_per_timestep", "exit_histogram", "synops", "energy_pj"} <= set(
        figures
    )
    assert figures["ann_accuracy"] > 0.7
    assert figures["accuracy"] > figures["ann_accuracy"] - 0.05
    assert 1 <= figures["mean_timesteps"] < 8
    assert len(figures["accuracy_per_timestep"]) == len(figures["exit_histogram"]) == 8
    assert sum(figures["exit_histogram"]) == figures["samples"] == 359
    assert figures["synops"] > 0
    assert figures["energy_pj"] > 0
    report = folder / "seenn-report"
    pictures = {"accuracy.png", "exits.png", "tradeoff.png", "images.png", "conversion.png"}
    pages = {"report.md", "report.json", "conversion.md", "conversion.json", "pages.json", "report.html"}
    assert pictures | pages == {path.name for path in report.iterdir()}
    html = (report / "report.html").read_text(encoding="utf-8")
    assert html.index("Conversion of snn.safetensors</h1>") < html.index("snn.safetensors on digits</h1>")
    assert all((report / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    stored = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert stored["accuracy"] == figures["accuracy"]


def test_predict_names_a_class_and_its_steps(folder: Path, shell: Shell) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[1:7, 3:5] = 255
    Image.fromarray(pixels).save(folder / "one.png")
    done = shell(folder, "predict", "snn.safetensors", "one.png")
    assert done.code == 0, done.err
    assert done.out.startswith("one.png: ")
    assert "confidence" in done.out
    assert re.search(r"\d steps?\)", done.out)


def test_inspect_shows_a_network_and_what_would_become_of_a_model(folder: Path, shell: Shell) -> None:
    network = shell(folder, "inspect", "snn.safetensors")
    assert network.code == 0, network.err
    assert "17 neuron sites" in network.out
    assert "exit policy: policy confidence, threshold 0.95" in network.out
    assert network.err == ""
    model = shell(folder, "inspect", "resnet18", "--json")
    assert model.code == 0, model.err
    found = json.loads(model.out)
    assert (found["sites"], found["convertible"], found["input_shape"]) == (17, True, [3, 224, 224])
    maps = {64: 56, 128: 28, 256: 14, 512: 7}  # the stem is pooled before its activation: one map more of 64 channels
    assert found["neurons"] == 64 * 56**2 + sum(4 * channels * side**2 for channels, side in maps.items())
    assert {node["fate"] for node in found["nodes"]} == {"synapse", "spiking", "folded", "linear", "running mean"}


@pytest.mark.parametrize("neuron", [["lif"], ["burst", "--save-memory"]])
def test_a_network_trained_directly_goes_through_the_same_commands(
    neuron: list[str], shell: Shell, tmp_path: Path
) -> None:
    options = ("--width", "0.25", "--epochs", "4", "--timesteps", "2", "--neuron", *neuron)
    trained = shell(tmp_path, "train-direct", *options, "--json")
    assert trained.code == 0, trained.err
    figures = json.loads(trained.out)
    assert len(figures["accuracy_per_timestep"]) == figures["timesteps"] == 2
    assert figures["accuracy_per_timestep"][1] > 0.5
    assert shell(tmp_path, "calibrate-exit", "--threshold", "0.9").code == 0
    evaluated = shell(tmp_path, "evaluate", "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["ann_accuracy"] is None
    assert "There is no ANN behind this network" in (tmp_path / "seenn-report" / "report.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--decay", "1"], 2, "decay must be in [0, 1), got 1.0; a neuron without a leak is IFNeuron"),
        (["--neuron", "if", "--decay", "0.5"], 2, "if neurons have no decay: give surrogate alone"),
        (["--neuron", "if", "--levels", "2"], 2, "if neurons take levels of 1, got 2: use burst or signed for others"),
        (["--neuron", "burst", "--levels", "1"], 2, "burst neurons take levels of 2 to 127, got 1: use if for others"),
        (["--neuron", "signed", "--surrogate", "arctan"], 2, "signed neurons have no surrogate"),
        (["--timesteps", "0"], 2, "0 is not in the range"),
        (["--model", "spiking_resnet91"], 2, "unknown model 'spiking_resnet91'. Did you mean"),
        (["--model", "spiking_vgg16"], 1, "a spiking VGG needs images of at least 16×16 pixels, got 8×8"),
        (["--model", "resnet18", "--width", "0.5"], 2, "--width is for the spiking_ models; give resnet18 its own"),
        (["--data", "n-mnist"], 1, "data 'n-mnist': give its folder as data_dir (--data-dir)"),
        (["--data", "npz:one.npz"], 1, "only the class '0'; expected two or more"),
    ],
)
def test_train_direct_refuses_what_cannot_be_trained(
    arguments: list[str], code: int, message: str, seenn: Shell, tmp_path: Path
) -> None:
    np.savez("one.npz", images=np.zeros((40, 8, 8), np.uint8), labels=np.zeros(40, np.int64))
    done = seenn("train-direct", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert list(tmp_path.iterdir()) == [tmp_path / "one.npz"]
