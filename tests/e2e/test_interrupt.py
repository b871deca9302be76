"""Ctrl-C in the middle: exit code 130, a message, and no file that was not there before."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


def interrupted(command: list[str], folder: Path, environment: dict[str, str], when: bytes) -> tuple[int, str]:
    """Runs a command on a terminal and interrupts it once ``when`` is on its screen: exit code, the screen."""
    terminal, screen = os.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=screen,
        # A test runner in the background of a shell ignores the signal, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(screen)
    seen, sent, deadline = b"", False, time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1.0)[0]:
                try:
                    piece = os.read(terminal, 4096)
                except OSError:  # the other end is closed
                    break
                seen += piece
                if not piece:
                    break
            if when in seen and not sent:
                process.send_signal(signal.SIGINT)
                sent = True
        return process.wait(timeout=60), seen.decode()
    finally:
        process.kill()
        os.close(terminal)


def test_interrupted_training_leaves_nothing(console: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    command = [*console, "train-ann", "--model", "resnet18", "--epochs", "1000"]
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
    command = [*console, "train-ann", "--model", "resnet18", "--epochs", "1000", "--run-dir", "run"]
    code, screen = interrupted(command, tmp_path, environment, b"/14000")
    assert code == 130, screen
    said = " ".join(screen.split())
    assert "stopped by SIGINT after step" in said
    assert "the state is saved in run: the same command with --resume continues" in said
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
