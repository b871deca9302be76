"""``seenn train-policy`` and ``seenn compare-exits``, from a file to a file and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from cli.calibrate_exit import calibrate_exit
from cli.compare_exits import compare_exits
from cli.evaluate import evaluate
from cli.train_policy import train_policy
from seenn.checkpoint import load
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, IFNeuron, Linear
from seenn.data import Preprocessing, load_data
from seenn.exits import BudgetExit
from seenn.snn import SNN


@pytest.fixture
def snn(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(900) % 3
    images = random.integers(0, 200, (900, 1, 8, 8), dtype=np.uint8)
    images[np.arange(900), 0, 2 * labels] += 55
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    preprocessing = Preprocessing(channels=1, height=8, width=8, mean=(0.45,), std=(0.25,))
    splits = load_data(f"npz:{tmp_path / 'data.npz'}", preprocessing=preprocessing)
    rows = torch.zeros(3, 64)
    for k in range(3):
        rows[k, 16 * k : 16 * k + 8] = 1.0
    nodes = [
        Node("flatten", Flatten(), (INPUT,)),
        Node("hidden", Linear(rows, torch.zeros(3)), ("flatten",)),
        Node("spikes", IFNeuron(torch.full((3,), 2.0), signed=False, max_spikes=1), ("hidden",)),
        Node("head", Linear(torch.eye(3) + 0.01 * torch.arange(9).view(3, 3), torch.zeros(3)), ("spikes",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False)
    manifest: dict[str, Any] = {"timesteps": 4, "data": splits.manifest()}
    SNN(network=network, preprocessing=preprocessing, manifest=manifest).save(tmp_path / "snn.safetensors")
    return tmp_path / "snn.safetensors"


def invoke(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--device", "cpu", "--json"], standalone_mode=True)


def test_a_policy_is_trained_stored_swept_and_compared(snn: Path) -> None:
    report, folder = snn.parent / "report", snn.parent / "run"
    options = ("--snn", str(snn), "--epochs", "1", "--policy-size", "4", "--limit", "200", "--report", str(report))
    sweep = ("--beta", "2", "--beta-sweep", "0.5,4", "--run-dir", str(folder), "--model-kwargs", "width=8")
    done = invoke(train_policy, *options, *sweep)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["training_samples"], found["training"]["beta"], found["timesteps"]) == (200, 2.0, 4)
    assert [point["beta"] for point in found["beta_sweep"]] == [0.5, 2.0, 4.0]
    assert json.loads((report / "beta-sweep.json").read_text())["points"] == found["beta_sweep"]
    assert (report / "beta-sweep.png").stat().st_size > 5_000
    policy = load(snn).policy
    assert isinstance(policy, BudgetExit)
    assert policy.network.input_shape == (1, 4, 4)
    again = invoke(train_policy, *options, *sweep, "--resume")  # everything is done: the same outcome, no network runs
    assert json.loads(again.stdout)["accuracy"] == found["accuracy"]

    done = invoke(evaluate, str(snn), "--report", str(report), "--limit", "50")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["policy_macs"] == policy.macs > 0
    assert figures["energy_pj"] > 4.6 * policy.macs
    refused = invoke(evaluate, str(snn), "--report", str(report), "-T", "3")
    assert refused.exit_code == 1
    assert "made for 4 timesteps, and 3 are asked for: run 4, or make one with `seenn train-policy" in refused.output

    rules = ("--policy", "confidence", "--policy", "entropy", "--latency-images", "4", "--limit", "100")
    done = invoke(compare_exits, str(snn), *rules, "--report", str(report))
    assert done.exit_code == 0, done.output
    compared = {f["name"]: f for f in json.loads(done.stdout)["policies"]}
    assert set(compared) == {"confidence", "entropy", "every step", "seenn-ii", "stored seenn-ii"}
    assert compared["stored seenn-ii"]["policy_energy_pj"] == pytest.approx(4.6 * policy.macs)
    assert all(f["latency_ms"] > 0 for f in compared.values())
    assert (report / "exits.md").exists()

    calibrate = ("--policy", "seenn-ii", "-o", str(snn.parent / "moved.safetensors"))
    done = invoke(calibrate_exit, str(snn), *calibrate, "--target-timesteps", "2")
    assert done.exit_code == 0, done.output
    moved = json.loads(done.stdout)
    assert 1 <= moved["mean_timesteps"] <= 2
    assert moved["mean_energy_pj"] > 4.6 * policy.macs
    budget = load(snn.parent / "moved.safetensors").policy
    assert isinstance(budget, BudgetExit)
    assert budget.threshold == moved["threshold"] != policy.threshold
    certain = ("--max-accuracy-drop", "0.2", "--confidence", "0.9", "--guarantee", "conditional")
    done = invoke(calibrate_exit, str(snn), *calibrate, *certain)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["threshold"]) == 3
    refused = invoke(calibrate_exit, str(snn), *calibrate, "--threshold", "0", "--alpha", "0.1")
    assert (refused.exit_code, "the seenn-ii rule does not take --alpha" in refused.output) == (2, True)
    invoke(calibrate_exit, str(snn), "--threshold", "0.9")
    refused = invoke(calibrate_exit, str(snn), *calibrate, "--threshold", "0")
    assert refused.exit_code == 1
    assert "has the confidence policy, and seenn-ii must be trained first: run `seenn train-policy`" in refused.output
    rules = ("--policy", "confidence", "--policy", "seenn-ii", "--report", str(snn.parent / "without"))
    done = invoke(compare_exits, str(snn), *rules)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["left_out"] == {"seenn-ii": "the file has none: run `seenn train-policy`"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--policy-size", "9"), 2, "the policy's images have 9 pixels a side; expected 1 to 8"),
        (("--beta-sweep", "1,x"), 2, "'x' is not a valid number"),
        (("--model", "no_such_model"), 2, "no_such_model"),
        (("--resume",), 2, "--resume needs the run's folder: --run-dir DIR"),
    ],
)
def test_what_cannot_be_trained_is_refused(snn: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    before = snn.read_bytes()
    done = invoke(train_policy, "--snn", str(snn), "--limit", "50", *arguments)
    assert (done.exit_code, message in done.output) == (code, True), done.output
    assert snn.read_bytes() == before


def test_one_target_at_a_time(snn: Path) -> None:
    done = invoke(compare_exits, str(snn), "--target-energy", "5", "--target-timesteps", "2")
    assert done.exit_code == 2
    assert "give one of --max-accuracy-drop, --target-timesteps and --target-energy" in done.output
