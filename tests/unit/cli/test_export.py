"""``seenn export``: one object that says what was compared, and one line where it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import nir
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_snn import digits_snn

from cli.main import seenn
from seenn.core.ops import IFNeuron, LIFNeuron

from ..seenn.capture.test_nir import write as write_nir
from .test_engines import write

TAU = np.full((3, 4, 4), 2e-3)


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
    code, said = run(snn, "--to", "integers", "-o", snn)
    assert code == 2
    assert f"{snn} is the input of SNN, which would be lost: name another" in said
    assert run(snn, "--to", "paper")[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["snn.safetensors"]


def test_commands_read_nir_files_as_their_library_would(tmp_path: Path) -> None:
    node = nir.LIF(tau=TAU, r=np.ones((3, 4, 4)), v_leak=np.zeros((3, 4, 4)), v_threshold=np.ones((3, 4, 4)))
    path = str(write_nir(tmp_path / "net.nir", node))

    def inspected(*arguments: str) -> Result:
        return CliRunner().invoke(seenn, ["inspect", *arguments])

    assert "lif" in inspected(path, "--dialect", "norse").stdout
    assert inspected(path).exit_code == 2
    snn = write(tmp_path / "snn.safetensors", IFNeuron(0.5))
    refused = inspected(snn, "--dialect", "norse")
    assert refused.exit_code == 2
    assert "only NIR files (.nir) have a dialect" in refused.stderr


def test_commands_read_the_folder_that_was_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits_snn().export("net-nir", to="nir")
    Image.new("L", (8, 8), 100).save("one.png")

    def code(line: str) -> tuple[int, str]:
        done = CliRunner().invoke(seenn, line.split())
        return done.exit_code, done.output

    for line in (
        "inspect net-nir",
        "predict net-nir one.png -o answers.csv",
        "evaluate net-nir --data digits --limit 32",
        "calibrate-exit net-nir --data digits --threshold 0.5 -o snn.safetensors",
    ):
        assert code(line)[0] == 0, code(line)
    refused = code("calibrate-exit net-nir --data digits --threshold 0.5")
    assert refused[0] == 2
    assert "net-nir is a folder, not a file: name another file" in refused[1]
    assert sorted(path.name for path in Path("net-nir").iterdir()) == ["network.json", "network.nir"]
