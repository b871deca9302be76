"""The texts that people see first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import seenn

ROOT = Path(__file__).parents[3]


def test_without_arguments_the_help_is_printed_in_full() -> None:
    bare, asked = CliRunner().invoke(seenn, []), CliRunner().invoke(seenn, ["--help"])
    assert bare.exit_code == asked.exit_code == 0
    assert bare.stdout == asked.stdout
    assert "..." not in bare.stdout.replace("[ARGS]...", "")
    assert all(len(line) <= 80 for line in bare.stdout.splitlines())


@pytest.mark.parametrize("name", list(seenn.commands))
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(seenn, [name, "--help"], prog_name="seenn")
    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: seenn {name} ")
    command = seenn.commands[name]
    assert command.short_help
    assert f"  {name} " in CliRunner().invoke(seenn, []).stdout
    assert all(option in done.stdout for option in ("--json", "--device", "--seed", "--plugin"))


def test_help_does_not_import_torch() -> None:
    script = (
        "import sys; sys.argv = ['seenn', '--help']\n"
        "from cli.main import main\n"
        "main()\n"
        "assert not {'torch', 'numpy', 'rich', 'timm'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
