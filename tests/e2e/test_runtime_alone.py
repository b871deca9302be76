"""Networks run where only the packages of ``constraints-runtime.txt`` are installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_network_answers_without_what_makes_networks() -> None:
    command = [sys.executable, ROOT / "tests" / "runtime_alone.py", "--hide"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "timm" in run.stdout


def test_the_versions_are_those_of_all_constraints() -> None:
    all_of_them = (ROOT / "constraints.txt").read_text()
    runtime = re.findall(r"^[\w-]+==\S+$", (ROOT / "constraints-runtime.txt").read_text(), re.M)
    assert len(runtime) == 4
    assert [pin for pin in runtime if pin not in all_of_them.splitlines()] == []
