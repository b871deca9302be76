"""Two processes against one: training to rounding, calibration and evaluation exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seenn.distributed import World
from seenn.errors import DataError

PROGRAM = """
import json, os, sys
from dataclasses import asdict, replace
from pathlib import Path
import torch
from torch import nn
from converter import ConvertConfig, convert_module
from converter.checks import check
from seenn.snn import SNN
from seenn.data import load_data
from seenn.distributed import joined
from seenn.analysis.collect import collect_run
from seenn.exits import ConfidenceExit
from seenn.capture import capture
from seenn.core.ops import LIFNeuron
from seenn.models import build_spiking_model
from seenn.training import Augment, DirectConfig, FinetuneConfig, OptimConfig, TrainConfig
from seenn.training import finetune, train_ann, train_direct

torch.set_num_threads(1)

def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))

with joined() as here:
    splits = load_data("digits")
    config = TrainConfig(epochs=1, augment=Augment(shift=1), optim=OptimConfig(lr=0.05))
    ann = train_ann(classifier(), splits, config).module
    images = splits.calibration.images(limit=96)
    choice = ConvertConfig(neuron="if", correction="joint", timesteps=2)
    network = convert_module(classifier().eval(), images, choice).network
    checked = check(network, splits.exit.batches(32, limit=80), 2, site_samples=48)
    exits = collect_run(network, splits.exit, 2, batch_size=32, limit=80)
    policy = ConfidenceExit(threshold=0.15)
    found = SNN(network=network).evaluate(splits.test, engine="reference", timesteps=2, policy=policy, batch_size=32)
    tuned = finetune(network, splits, FinetuneConfig(train=replace(config, epochs=0.5))).network
    torch.manual_seed(0)
    spiking = build_spiking_model("spiking_small", LIFNeuron, in_chans=1, num_classes=10, image_size=(8, 8), width=0.25)
    direct = capture(spiking.train(), torch.zeros(2, 1, 8, 8)).train()
    train_direct(direct, splits, replace(config, epochs=0.5), DirectConfig(timesteps=5, mixed_timesteps=True))
    if here.first:
        made = {"ann": ann, "network": network, "tuned": tuned, "direct": direct}
        cached = {"logits_sum": exits.logits_sum, "labels": exits.labels, "energy_pj": exits.energy_pj}
        torch.save({"exits": cached, **{name: m.state_dict() for name, m in made.items()}}, sys.argv[1])
        Path(sys.argv[1]).with_suffix(".json").write_text(json.dumps([found.to_json(), asdict(checked)]))

# A thread of the group that outlives it aborts the process now and then, while Python shuts down.
if sys.platform == "linux":
    threads = [open(f"/proc/self/task/{thread}/comm").read() for thread in os.listdir("/proc/self/task")]
    assert not any("gloo" in name for name in threads), threads
"""


def run(folder: Path, processes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    program, target = folder / "program.py", folder / f"{processes}.pt"
    program.write_text(PROGRAM)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *torchrun, str(program), str(target)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(target, weights_only=True), json.loads(target.with_suffix(".json").read_text())


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    (one, one_report), (two, two_report) = (run(tmp_path, processes) for processes in (1, 2))
    assert one_report == two_report
    for part in ("network", "exits"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    for part in ("ann", "tuned", "direct"):
        for name, tensor in one[part].items():
            torch.testing.assert_close(two[part][name], tensor, rtol=1e-4, atol=1e-5)


def test_shares_are_whole_batches_and_cover_everything() -> None:
    for size in (1, 2, 3, 5):
        shares = [World(rank, size).batches(103, 10) for rank in range(size)]
        assert [row for share in shares for row in range(103)[share]] == list(range(103))
        assert all(share.start % 10 == 0 for share in shares)


def test_more_processes_than_batches_are_refused() -> None:
    expected = "103 samples in batches of 50 are 3 for 4 processes, .*: start fewer processes, or use smaller batches"
    with pytest.raises(DataError, match=expected):
        World(0, 4).batches(103, 50)
