"""``seenn export``: one object that says what was compared, and one line where it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.main import seenn
from seenn.core.ops import IFNeuron, LIFNeuron

from .test_engines import write


def run(*arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(seenn, ["export", *arguments, "--json"], standalone_mode=False)
    if isinstance(done.exception, click.ClickException):
        return done.exception.exit_code, done.exception.format_message()
    if done.exception is not None:
        raise done.exception
    return 0, json.loads(done.stdout)


def test_what_was_compared_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snn = write(tmp_path / "snn.safetensors", IFNeuron(0.5, max_spikes=2))
    code, found = run(snn, "--to", "integers", "--images", "5")
    assert code == 0, found
    assert found["inputs"] == "digits, calibration split, 5 images"
    assert found["compared"]["differences"] == 0
    assert (tmp_path / found["path"]).name == "snn.npz"
    text = CliRunner().invoke(seenn, ["export", snn, "--to", "integers", "--images", "5"]).stdout
    assert text.splitlines()[0].startswith("snn.npz: integers, run by NumPy ")


def test_refusals_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snn = write(tmp_path / "snn.safetensors", LIFNeuron(0.5))
    code, said = run(snn, "--to", "integers")
    assert code == 1
    assert "1 thing stands in the way of integers: relu2 (lif_neuron)" in said
    assert run(snn, "--to", "integers", "--raw-pixels")[0] == 2
    assert run(snn, "--to", "integers", "-o", snn) == (2, f"{snn} is the input, which would be lost")
    assert run(snn, "--to", "paper")[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["snn.safetensors"]
