"""The main job through the console script: train, convert, calibrate the exit, evaluate, predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Shell = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Path:
    """An empty folder in which the commands of the front page have just been typed."""
    folder = tmp_path_factory.mktemp("work")
    for command, answer in (
        ("train-ann --model resnet18 --epochs 2", "next: seenn convert --model resnet18 --ckpt ann.pth\n"),
        ("convert --model resnet18 --ckpt ann.pth", "next: seenn calibrate-exit --threshold 0.95\n"),
        ("calibrate-exit --threshold 0.95", "next: seenn evaluate\n"),
    ):
        done = shell(folder, *command.split())
        assert done.code == 0, done.err
        assert done.out.endswith(answer)
        assert all(len(line) <= 80 for line in done.out.splitlines())
        assert "Traceback" not in done.err
    assert {path.name for path in folder.iterdir()} == {"ann.pth", "snn.safetensors"}
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
    pictures = {"accuracy.png", "exits.png", "tradeoff.png", "images.png"}
    assert pictures | {"report.md", "report.json"} == {path.name for path in report.iterdir()}
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
    assert "steps)" in done.out


def test_inspect_shows_a_network_and_what_would_become_of_a_model(folder: Path, shell: Shell) -> None:
    network = shell(folder, "inspect", "snn.safetensors")
    assert network.code == 0, network.err
    assert "17 neuron sites" in network.out
    assert "exit policy: policy confidence, threshold 0.95" in network.out
    assert network.err == ""
    model = shell(folder, "inspect", "resnet18", "--json")
    assert model.code == 0, model.err
    found = json.loads(model.out)
    assert (found["neurons"], found["convertible"], found["input_shape"]) == (17, True, [3, 224, 224])
    assert {node["fate"] for node in found["nodes"]} == {"synapse", "spiking", "folded", "linear", "cumulative"}


def test_direct_training_says_that_it_is_not_there(shell: Shell, tmp_path: Path) -> None:
    done = shell(tmp_path, "train-direct", "--model", "resnet18")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: direct training is not part of this version")
