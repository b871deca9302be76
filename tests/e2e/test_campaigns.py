"""A small part of the fault campaigns in ``benchmarks/``, with fixed seeds: they run, and they find nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import forked
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _campaign(name: str, folder: Path, *arguments: str) -> str:
    run = forked.run(BENCHMARKS / f"{name}.py", "--work", folder, *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize(("kind", "count"), [("safetensors", 120), ("onnx", 60), ("pth", 40), ("inputs", 40)])
def test_damaged_files_are_read_or_refused(tmp_path: Path, kind: str, count: int) -> None:
    arguments = ("--kind", kind, "--count", str(count), "--first", "500000", "--child")  # without what starts it
    ready, *told = _campaign("fuzz", tmp_path, *arguments).splitlines()
    assert ready == "ready"
    assert len(told) == count
    assert {line.partition(" ")[2] for line in told} == {'"read"', '"refused"'}


def test_a_campaign_starts_its_children_and_sums_up(tmp_path: Path) -> None:
    assert "no faults" in _campaign("fuzz", tmp_path, "--kind", "pth", "--count", "5", "--first", "500000")


@pytest.mark.skipif(sys.platform != "linux", reason="kills forked processes")
def test_what_was_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    assert "2 of 2 the same bit for bit" in _campaign("kills", tmp_path, "--trials", "2", "--seed", "7")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_streams_writers_threads_and_forks_lose_nothing(tmp_path: Path) -> None:
    _campaign("hostile", tmp_path, "--images", "2000", "--increments", "12", "--trials", "10", "--no-outputs")
