"""The real command line: the console script, the same entry point in a process of its own, and inside this one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from torch import Tensor

from cli.main import main
from converter.load import LoadedModel, ModelSpec, build_model
from converter.load.weights import write_weights
from seenn.data import load_data
from seenn.training import TrainConfig, train_ann

ROOT = Path(__file__).parents[2]
NARROW = {"channels": (8, 8, 8, 8), "stem_width": 8, "layers": (1, 1, 1, 1)}


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def console() -> list[str]:
    """The installed ``seenn``, or its entry point in a plain checkout."""
    script = shutil.which("seenn", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "cli"]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    return {**os.environ, "OMP_NUM_THREADS": "1", **settings}


@pytest.fixture(scope="session")
def shell(environment: dict[str, str]) -> Callable[..., Outcome]:
    """Runs ``seenn …`` in a folder, in a process of its own."""

    def run(folder: Path, *arguments: str) -> Outcome:
        done = forked.run("-m", "cli", *arguments, cwd=folder, env=environment)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def seenn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``seenn …`` in this process, in an empty folder: quicker where many commands are tried."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["seenn", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capfd.readouterr()
        return Outcome(code or 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def narrow() -> LoadedModel:
    """A narrow ResNet that knows the digits a little."""
    torch.manual_seed(0)
    loaded = build_model(ModelSpec(name="resnet18", kwargs=NARROW, num_classes=10), (1, 8, 8))
    train_ann(loaded.module, load_data("digits"), TrainConfig(epochs=2))
    return loaded


@pytest.fixture
def checkpoint(tmp_path: Path, narrow: LoadedModel) -> Callable[..., Path]:
    """Writes ``ann.pth`` as ``train-ann`` does, with some tensors replaced."""
    splits = load_data("digits")

    def write(**changes: Tensor) -> Path:
        tensors = {**narrow.module.state_dict(), **{k.replace("__", "."): t for k, t in changes.items()}}
        record = {
            "model": narrow.record,
            "preprocessing": splits.preprocessing.to_json(),
            "data": splits.manifest(),
        }
        write_weights(tmp_path / "ann.pth", tensors, record)
        return tmp_path / "ann.pth"

    return write
