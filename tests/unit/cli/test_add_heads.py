"""``seenn add-heads``: where heads go, what is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from small_snn import digits_snn

import seenn
from cli.add_heads import add_heads


@pytest.fixture
def snn(tmp_path: Path) -> Path:
    digits_snn().save(tmp_path / "snn.st")
    return tmp_path / "snn.st"


def run(snn: Path, *arguments: str) -> Result:
    options = ("--engine", "reference", "--limit", "200", "--device", "cpu", "--json")
    return CliRunner().invoke(add_heads, [str(snn), *options, *arguments], standalone_mode=True)


def test_heads_are_put_where_they_divide_the_work_and_stored(snn: Path) -> None:
    done = run(snn, "--heads", "1")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert [head["at"] for head in result["heads"]] == ["b"]
    loaded = seenn.load(snn)
    assert loaded.network.graph.heads == ("exit1.linear",)
    assert loaded.policy is None
    again = run(snn, "--at", "a,b")
    assert again.exit_code == 1
    assert "has heads already, at exit1.linear: give the file from before add-heads, or --replace" in again.output
    assert run(snn, "--at", "a,b", "--replace").exit_code == 0
    assert seenn.load(snn).network.graph.heads == ("exit1.linear", "exit2.linear")


def test_a_place_that_is_no_cut_is_refused(snn: Path) -> None:
    done = run(snn, "--at", "b.inner")
    assert done.exit_code == 2
    assert "no head can be put at b.inner; choose from a, b, c" in done.output
