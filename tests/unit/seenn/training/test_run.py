"""A run's folder: what is in it, continuing it bit for bit, and what is refused."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from torch import nn

from seenn.data import DataSplits
from seenn.errors import CheckpointError, TrainingError, UnsupportedError
from seenn.files import atomic_path
from seenn.training import Augment, OptimConfig, Run, TrainConfig, TrainingResult, train_ann

CONFIG = TrainConfig(epochs=2.5, ema=0.9, augment=Augment(shift=1), optim=OptimConfig(lr=0.05))
Train = Callable[..., TrainingResult]


@pytest.fixture
def train(digits: DataSplits, classifier: Callable[[], nn.Module], tmp_path: Path) -> Train:
    def run(
        config: TrainConfig = CONFIG,
        on_step: Callable[[int, int], None] | None = None,
        folder: Path = tmp_path / "run",
        **options: Any,
    ) -> TrainingResult:
        made = Run(folder=folder, config={"training": config.to_record()}, save_every=5, log_every=1, **options)
        return train_ann(classifier(), digits, config, run=made, on_step=on_step)

    return run


class Stop(Exception):
    pass


def stop_at(step: int) -> Callable[[int, int], None]:
    def stop(done: int, total: int) -> None:
        if done == step:
            raise Stop

    return stop


def weights(result: TrainingResult) -> list[torch.Tensor]:
    return list(result.module.state_dict().values())


@pytest.mark.parametrize(("step", "opt"), [(3, "sgd"), (14, "adamw"), (23, "sgd")])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(train: Train, tmp_path: Path, step: int, opt: str) -> None:
    config = TrainConfig(epochs=2.5, ema=0.9, augment=Augment(shift=1), optim=OptimConfig(opt=opt, lr=0.01))
    whole = train(config, folder=tmp_path / "whole")
    with pytest.raises(Stop):
        train(config, stop_at(step))
    resumed = train(config, resume=True)
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    assert whole.epochs == resumed.epochs
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "run")
    ]
    for line in (*lines[0], *lines[1]):
        line.pop("seconds")
    assert lines[0] == lines[1]
    assert train(config, resume=True).epochs == whole.epochs  # a run that is done has nothing left to do


def test_the_folder_holds_configuration_metrics_and_curves(train: Train, tmp_path: Path) -> None:
    result = train()
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        "state.safetensors",
    ]
    assert json.loads((folder / "config.json").read_text())["training"]["optim"]["lr"] == 0.05
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines if "epoch" in line] == [r.accuracy for r in result.epochs]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_with_a_run_in_it_is_not_overwritten(train: Train) -> None:
    train()
    with pytest.raises(CheckpointError, match="holds a run already: continue it with --resume, or name another folder"):
        train()


def test_another_configuration_is_refused_field_by_field(train: Train) -> None:
    train()
    other = TrainConfig(epochs=3, ema=0.9, augment=Augment(shift=1), optim=OptimConfig(lr=0.1))
    expected = r"training\.epochs was 2\.5, now 3; training\.optim\.lr was 0\.05, now 0\.1\. Give the same options"
    with pytest.raises(CheckpointError, match=expected):
        train(other, resume=True)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("state.safetensors", lambda data: data[: len(data) // 2], "state.safetensors cannot be taken up .*damaged or"),
        ("state.safetensors", lambda data: b"", "state.safetensors cannot be taken up .*Start again in another folder"),
        ("config.json", lambda data: data[:20], "config.json cannot be read .*the run's folder is damaged"),
        ("config.json", lambda data: b"[]", r"config.json cannot be read \(expected an object\)"),
    ],
)
def test_damaged_folders_are_refused(
    train: Train, tmp_path: Path, name: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    train(TrainConfig(epochs=0.5))
    file = tmp_path / "run" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        train(TrainConfig(epochs=0.5), resume=True)


def test_a_state_of_another_module_is_refused(train: Train, digits: DataSplits, tmp_path: Path) -> None:
    train(TrainConfig(epochs=0.5))
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    config = TrainConfig(epochs=0.5)
    run = Run(folder=tmp_path / "run", config={"training": config.to_record()}, resume=True)
    with pytest.raises(CheckpointError, match=r"state.safetensors cannot be taken up .*damaged or of another run"):
        train_ann(module, digits, config, run=run)


def test_a_full_disk_leaves_the_state_before_it(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(CONFIG, stop_at(6))
    state = tmp_path / "run" / "state.safetensors"
    before = state.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot write .*state\.safetensors: .*What was there before is intact"
        ):
            train(resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert state.read_bytes() == before
    assert train(resume=True).epochs[-1].epoch == 3


def test_sigterm_saves_and_says_how_to_go_on(train: Train, tmp_path: Path) -> None:
    def ask(done: int, total: int) -> None:
        if done == 7:
            signal.raise_signal(signal.SIGTERM)

    whole = train(folder=tmp_path / "whole")
    with pytest.raises(TrainingError, match=r"stopped by SIGTERM after step 7 of 35; .*with --resume continues"):
        train(CONFIG, ask)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert all(map(torch.equal, weights(whole), weights(train(resume=True))))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from torch import nn
from seenn.data import load_data
from seenn.training import Run, TrainConfig, train_ann

folder, kill_at = Path(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10))
config = TrainConfig(epochs=2)

def on_step(done, total):
    if done == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

run = Run(folder=folder, config=config.to_record(), resume=True, save_every=4)
result = train_ann(module, load_data("digits"), config, run=run, on_step=on_step)
torch.save(result.module.state_dict(), folder / "result.pth")
"""


def test_a_killed_process_continues_bit_for_bit(tmp_path: Path) -> None:
    def start(folder: str, kill_at: int) -> int:
        return forked.run("-c", KILLED, tmp_path / folder, str(kill_at)).returncode

    assert start("whole", -1) == 0
    assert start("cut", 10) == -signal.SIGKILL
    for name in ("state.safetensors", "curves.png", "metrics.jsonl", "config.json"):
        (tmp_path / "cut" / f".{name}.0123abcd.tmp").write_bytes(b"half")
    assert start("cut", -1) == 0
    whole, cut = (torch.load(tmp_path / name / "result.pth", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert list((tmp_path / "cut").glob(".*.tmp")) == []


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_which_another_run_is_going_on_is_refused(train: Train, tmp_path: Path, resume: bool) -> None:
    def start_another(done: int, total: int) -> None:
        if done == 7:
            state = tmp_path / "run" / "state.safetensors"
            with atomic_path(state):  # as if the first were just saving
                expected = r"another process is running in .*run: wait until it ends, or name another folder"
                with pytest.raises(CheckpointError, match=expected):
                    train(resume=resume)

    whole = train(folder=tmp_path / "whole")
    assert all(map(torch.equal, weights(whole), weights(train(CONFIG, start_another))))


def test_a_folder_that_vanished_is_said_to_be_gone(train: Train, tmp_path: Path) -> None:
    def remove(done: int, total: int) -> None:
        if done == 7:
            shutil.rmtree(tmp_path / "run")

    expected = r"cannot write .*run/\w+\.\w+: the folder .*run does not exist\. Nothing was written"
    with pytest.raises(CheckpointError, match=expected):
        train(CONFIG, remove)


def test_tensorboard_is_asked_for_by_name_where_it_is_missing(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UnsupportedError, match="TensorBoard is not installed: pip install tensorboard"):
        train(tensorboard=True)


@pytest.mark.parametrize("name", ["save_every", "log_every"])
def test_intervals_must_be_positive(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Run(folder=tmp_path, config={}, **{name: 0})
