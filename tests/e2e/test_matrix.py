"""Every command that takes a spiking network, on images, Poisson spikes and recorded events, by every engine.

On the CPU, and marked ``gpu`` on CUDA, where answers are compared with those of the CPU.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import recordings
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

import seenn
from cli.main import seenn as entry
from seenn.analysis.bench import timing
from seenn.data.provenance import load_recorded_data
from seenn.exits import GapExit
from seenn.runtime import ENGINES, Predictions, SpikeSums

T = 3
KINDS = ("images", "poisson", "events")
NAMES = ("auto", *ENGINES.names())
MODEL = """
from torch import nn

def small(num_classes, in_chans):
    return nn.Sequential(
        nn.Conv2d(in_chans, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, num_classes),
    )
"""
DIRECT = ("train-direct", "--width", "0.25", "-T", f"{T}", "--neuron", "if", "--lr", "0.05")
EVENTS = ("--data", "n-mnist", "--data-dir", "events")
MADE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "images": (
        ("train-ann", "--model", "tiny:small", "--epochs", "2", "-o", "ann.pth"),
        ("convert", "--model", "tiny:small", "--ckpt", "ann.pth", "-T", f"{T}", "--calibration-images", "64"),
    ),
    "poisson": ((*DIRECT, "--encoding", "poisson", "--epochs", "3"),),
    "events": ((*DIRECT, *EVENTS, "--no-flip", "--shift", "0", "--epochs", "6", "--batch-size", "10"),),
}
#: What commands say of data that come as frames over time; all else works.
REFUSED = {
    "train-policy": "a policy network learns from constant images, and the samples of .* are sequences of frames",
    "finetune": "fine-tuning learns from constant images, and the samples of .* are sequences of frames",
    "bench": "bench measures networks on images, and .* runs on one frame a timestep",
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

Made = Callable[[str], Path]
device = pytest.mark.parametrize("device", DEVICES)
kind = pytest.mark.parametrize("kind", KINDS)
engine = pytest.mark.parametrize("engine", NAMES)


def run(folder: Path, *arguments: str) -> tuple[int, Any]:
    """The exit code and the answer, or the error's one line; anything else that is raised goes through."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(entry, [*arguments, "--json"], standalone_mode=False)
    if isinstance(done.exception, click.ClickException):
        message = done.exception.format_message()
        assert len(message.splitlines()) == 1, message
        return done.exception.exit_code, message
    if done.exception is not None:
        raise done.exception
    return 0, json.loads(done.stdout)


def answer(folder: Path, *arguments: str) -> Any:
    """Of a command that works."""
    code, found = run(folder, *arguments)
    assert code == 0, found
    return found


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of the three networks that were made on a device, each with what its command answered."""

    @cache
    def make(device: str) -> Path:
        folder = tmp_path_factory.mktemp(device)
        (folder / "tiny.py").write_text(MODEL)
        random = np.random.default_rng(0)
        for part, each in (("Train", 12), ("Test", 4)):
            for label in range(10):
                for index in range(each):
                    places = random.integers(0, (34, 3, 9000, 2), (200, 4)).tolist()
                    events = [(x, 3 * label + y, t, p) for x, y, t, p in places]
                    recordings.write_bin(folder / "events" / part / f"{label}" / f"{index}.bin", events)
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / "picture.png")
        for kind, (*before, last) in MADE.items():
            for command in before:
                answer(folder, *command, "--device", device)
            found = answer(folder, *last, "-o", f"{kind}.safetensors", "--device", device)
            (folder / f"{kind}.json").write_text(json.dumps(found))
        return folder

    return make


def sane(figures: Mapping[str, Any], timesteps: int = T) -> None:
    """Fractions are fractions, steps are at most T, nothing is NaN or below zero."""
    for name, value in figures.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        assert math.isfinite(value), name
        if name.endswith("accuracy"):
            assert 0 <= value <= 1, name
        elif name.endswith("timesteps"):
            assert 1 <= value <= timesteps, name
        elif name.endswith(("_pj", "synops")):
            assert value > 0, name


@device
@kind
def test_networks_are_made(kind: str, device: str, made: Made) -> None:
    found = json.loads((made(device) / f"{kind}.json").read_text())
    assert len(found["accuracy_per_timestep"]) == T
    assert found["accuracy_per_timestep"][-1] > 0.15  # of ten classes, after a moment of training
    shown = answer(made(device), "inspect", f"{kind}.safetensors", "--device", device)
    assert (shown["timesteps"], shown["policy"]) == (T, None)


@device
@kind
@engine
def test_exits_are_calibrated_evaluated_and_compared_alike(
    engine: str, kind: str, device: str, made: Made, tmp_path: Path
) -> None:
    target, where = str(tmp_path / "exits.safetensors"), ("--engine", engine, "--device", device)
    folder = made("cpu")
    calibrated = answer(
        folder, "calibrate-exit", f"{kind}.safetensors", "--max-accuracy-drop", "0.05", "-o", target, *where
    )
    sane(calibrated)
    assert calibrated["accuracy"] >= calibrated["full_accuracy"] - 0.05
    some = ("--limit", "40", "--report", str(tmp_path / "report"), *where)
    evaluated = answer(folder, "evaluate", target, *some)
    sane(evaluated)
    assert evaluated["engine"] == calibrated["engine"]
    assert engine in ("auto", evaluated["engine"]["name"])
    assert sum(evaluated["exit_histogram"]) == evaluated["samples"] == 40
    assert (evaluated["ann_accuracy"] is not None) == (kind == "images")
    rules = ("--policy", "confidence", "--policy", "cutoff", "--latency-images", "2")
    compared = answer(folder, "compare-exits", target, *rules, *some)
    found = {policy["name"]: policy for policy in compared["policies"]}
    for name, ending in (("stored confidence", ""), ("every step", "_full")):  # collected as in calibration, and run
        assert found[name]["energy_pj"]["mean"] == pytest.approx(evaluated[f"energy{ending}_pj"])
    assert found["stored confidence"]["accuracy"]["mean"] == pytest.approx(evaluated["accuracy"])
    assert found["stored confidence"]["timesteps"]["mean"] == pytest.approx(evaluated["mean_timesteps"])
    assert compared["accuracy_per_timestep"] == pytest.approx(evaluated["accuracy_per_timestep"])


@device
@kind
@engine
def test_pictures_are_classified(engine: str, kind: str, device: str, made: Made) -> None:
    code, found = run(
        made("cpu"), "predict", f"{kind}.safetensors", "picture.png", "--engine", engine, "--device", device
    )
    if kind == "events":
        assert code == 1
        assert "reads recordings of events, not image files" in found
    else:
        (prediction,) = found["predictions"]
        assert prediction["exit_timestep"] == T
        assert 0 < prediction["confidence"] <= 1


@device
@kind
@engine
@pytest.mark.parametrize("command", ["train-policy", "bench"])
def test_policies_are_trained_and_speed_is_measured_on_images(
    command: str, engine: str, kind: str, device: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    file, target, where = f"{kind}.safetensors", str(tmp_path / "policy.safetensors"), ("--engine", engine)
    options = {
        "train-policy": ("--snn", file, "--epochs", "1", "--limit", "64", "--model", "tiny:small", "-o", target),
        "bench": (file, "--limit", "64", "--slots", "8", "--repeats", "1"),
    }
    code, found = run(made("cpu"), command, *options[command], *where, "--device", device)
    if kind != "images":
        assert code == 1
        assert re.search(REFUSED[command], found)
        return
    assert code == 0, found
    if command == "train-policy":
        sane(found)
        sane(answer(made("cpu"), "evaluate", target, "--limit", "40", "--report", str(tmp_path / "report"), *where))
    else:
        sane(found["accuracy"])
        assert 1 <= found["mean_timesteps"] <= T
        assert engine in ("auto", *found["latency_ms"])


@device
@kind
def test_networks_are_trained_on(kind: str, device: str, made: Made, tmp_path: Path) -> None:
    target = str(tmp_path / "tuned.safetensors")
    options = ("--epochs", "1", "-T", "2", "-o", target, "--device", device)
    code, found = run(made("cpu"), "finetune", f"{kind}.safetensors", *options)
    if kind != "images":
        assert code == 1
        assert re.search(REFUSED["finetune"], found)
        return
    assert code == 0, found
    assert len(found["accuracy_per_timestep"]) == 2
    exits = answer(made("cpu"), "calibrate-exit", target, "--threshold", "0.5", "--device", device)
    sane(exits, 2)


def session(folder: Path, kind: str, engine: str, device: str, slots: int) -> tuple[Predictions, Mapping[str, Tensor]]:
    """Answers to 40 test samples with exits, and each site's spikes; on the CPU."""
    snn = seenn.load(folder / f"{kind}.safetensors").to(device)
    splits = load_recorded_data(snn.manifest, snn.preprocessing, data_dir=data_dir(snn, folder))
    spikes = SpikeSums(40)
    runs = snn.session(engine, policy=GapExit(threshold=2.0 if kind == "images" else 0.2), slots=slots)
    answers = runs.run(splits.test.batch(limit=40).split(16), observers=[spikes])
    return answers, {site: counts.cpu() for site, counts in spikes.sums.items()}


def data_dir(snn: seenn.SNN, folder: Path) -> str | None:
    recorded = snn.manifest["data"]["data_dir"]
    return None if recorded is None else str(folder / recorded)


@device
@kind
@pytest.mark.parametrize("engine", ENGINES.names())
def test_answers_are_those_of_the_reference_on_the_cpu(engine: str, kind: str, device: str, made: Made) -> None:
    found, spikes = session(made("cpu"), kind, engine, device, slots=7)
    same, counts = session(made("cpu"), kind, engine, "cpu", slots=64)
    assert len(found.exit_timestep.unique()) > 1
    if engine == "int8":  # exact: whatever the device, slots and order
        assert torch.equal(found.labels, same.labels)
        assert torch.equal(found.exit_timestep, same.exit_timestep)
        assert torch.equal(found.logits_sum, same.logits_sum)
        assert all(torch.equal(spikes[site], counts[site]) for site in counts)
    expected, _ = session(made("cpu"), kind, "reference", "cpu", slots=64)
    agree = (found.labels == expected.labels) & (found.exit_timestep == expected.exit_timestep)
    assert float(agree.double().mean()) >= {"reference": 0.95, "float32": 0.95}.get(engine, 0.7)


@pytest.fixture(scope="session")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """Data that do not fit, as options."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, classes in (("more", 12), ("fewer", 3)):
        pixels = random.integers(0, 256, (60 * classes, 8, 8), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=pixels, labels=np.arange(len(pixels)) % classes)
    files = {name: ("--data", f"npz:{folder / name}.npz") for name in ("more", "fewer")}
    return {**files, "events": EVENTS, "steps": ("-T", "2")}


@pytest.mark.parametrize("kind", ["images", "poisson"])
@pytest.mark.parametrize("data", ["more", "fewer", "events", "steps"])
@pytest.mark.parametrize(
    "command", ["calibrate-exit", "evaluate", "compare-exits", "finetune", "train-policy", "bench"]
)
def test_data_that_do_not_fit_end_in_one_line(
    command: str,
    data: str,
    kind: str,
    made: Made,
    other_data: dict[str, tuple[str, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    file = ("--snn", f"{kind}.safetensors") if command == "train-policy" else (f"{kind}.safetensors",)
    options = {
        "calibrate-exit": ("--threshold", "0.9", "-o", str(tmp_path / "exits.safetensors")),
        "evaluate": ("--limit", "8", "--report", str(tmp_path)),
        "compare-exits": ("--policy", "confidence", "--latency-images", "0", "--limit", "8", "--report", str(tmp_path)),
        "finetune": ("--epochs", "0.1", "--batch-size", "16", "-o", str(tmp_path / "tuned.safetensors")),
        "train-policy": ("--epochs", "0.1", "--limit", "64", "-o", str(tmp_path / "policy.safetensors")),
        "bench": ("--limit", "64", "--slots", "8", "--repeats", "1"),
    }
    code, found = run(made("cpu"), command, *file, *options[command], *other_data[data])
    fits = data in ("fewer", "steps") if kind == "images" else data == "fewer"
    if fits and (kind == "images" or command not in REFUSED):
        assert code == 0, found
    else:
        assert code == 1


@pytest.mark.parametrize("command", ["train-ann", "convert", "train-direct"])
def test_making_networks_of_data_that_do_not_fit_ends_in_one_line(command: str, made: Made, tmp_path: Path) -> None:
    options = {
        "train-ann": ("--model", "tiny:small", "--epochs", "1", "-o", str(tmp_path / "ann.pth")),
        "convert": ("--model", "tiny:small", "--ckpt", "ann.pth", "-o", str(tmp_path / "snn.safetensors")),
        "train-direct": ("--epochs", "1", "--num-classes", "5", "-o", str(tmp_path / "snn.safetensors")),
    }
    data = () if command == "train-direct" else EVENTS
    code, found = run(made("cpu"), command, *options[command], *data)
    assert code == 1
    said = {"train-ann": "an ANN learns from constant images", "convert": "", "train-direct": "has 10 classes"}
    assert said[command] in found
    assert not list(tmp_path.iterdir())
