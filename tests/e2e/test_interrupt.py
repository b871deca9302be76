"""Ctrl-C in the middle: exit code 130, a message, and no file that was not there before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from interrupts import interrupted

NARROW = ("--model", "resnet18", "--model-kwargs", "channels=(8,8,8,8),layers=(1,1,1,1)")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


def test_interrupted_training_leaves_nothing(console: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    command = [*console, "train-ann", *NARROW, "--epochs", "1000"]
    code, screen = interrupted(command, tmp_path, environment, b"/14000")
    assert code == 130, screen
    assert "interrupted; no file was left half-written" in screen
    assert "Traceback" not in screen
    assert list(tmp_path.iterdir()) == []


def test_interrupted_conversion_leaves_nothing(
    console: list[str], environment: dict[str, str], checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint()
    command = [*console, "convert", "--model", "resnet18", "--ckpt", "ann.pth", "--timesteps", "512"]
    code, screen = interrupted(command, tmp_path, environment, b"calibrating")
    assert code == 130, screen
    assert "interrupted; no file was left half-written" in screen
    assert "Traceback" not in screen
    assert [path.name for path in tmp_path.iterdir()] == ["ann.pth"]


def test_interrupted_training_with_a_folder_saves_its_state_and_says_so(
    console: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    command = [*console, "train-ann", *NARROW, "--epochs", "1000", "--run-dir", "run"]
    code, screen = interrupted(command, tmp_path, environment, b"/14000")
    assert code == 130, screen
    said = " ".join(screen.split())
    assert "stopped by SIGINT after step" in said
    assert "the state is saved in run: the same command with --resume continues" in said
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
