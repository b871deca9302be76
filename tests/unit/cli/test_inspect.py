"""``seenn inspect``: sizes as ``seenn convert`` reads them, and files that are something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import seenn

MODELS = """
from torch import nn

def pictures():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3))

def table():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

def sound_of(channels):
    return nn.Sequential(nn.Conv1d(channels, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))

def sound():
    return sound_of(2)

def vector():
    return nn.Sequential(nn.Unflatten(1, (1, 6)), *sound_of(1))
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(seenn, ["inspect", *arguments])


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("sized.py").write_text(MODELS)


@pytest.mark.parametrize(
    ("model", "size", "shape"),
    [
        ("pictures", "6", [3, 6, 6]),
        ("pictures", "6,6", [3, 6, 6]),
        ("pictures", "3,6,6", [3, 6, 6]),
        ("table", "6", [6]),
        ("sound", "6", [2, 6]),
        ("sound", "2,6", [2, 6]),
        ("vector", "6", [6]),
    ],
)
def test_a_size_is_read_as_convert_reads_it(model: str, size: str, shape: list[int]) -> None:
    done = run(f"sized:{model}", "--input-size", size, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["input_shape"] == shape


def test_a_size_that_nothing_says_is_told_with_its_option(caplog: pytest.LogCaptureFixture) -> None:
    done = run("sized:table")
    assert done.exit_code == 1
    assert "nothing says the size of the input: taken is 3×224×224; state --input-size" in caplog.text


def test_data_sets_and_sizes_without_commas_are_told() -> None:
    Path("d.npz").write_bytes(b"x")
    assert (
        "d.npz is a data set, expected a model or a spiking network: give convert --data npz:d.npz"
        in run("d.npz").stderr
    )
    for size in ("32x32", "32 32", "32×32"):
        done = run("sized:pictures", "--input-size", size)
        assert done.exit_code == 2
        assert "has no commas: write 32,32." in done.stderr
