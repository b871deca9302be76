"""The texts that people see first."""

from __future__ import annotations

import signal
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


@pytest.mark.parametrize("library", ["cli.main", "numpy", "torch.nn"])
def test_ctrl_c_while_libraries_are_loaded_ends_it_without_a_traceback(library: str) -> None:
    script = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {library!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['seenn', 'doctor']\n"
        "from cli.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_the_commands_see_ctrl_c_as_before() -> None:
    script = (
        "import signal\nsignal.signal(signal.SIGINT, signal.{handler})\nbefore = signal.getsignal(signal.SIGINT)\n"
        "import cli.__main__\nassert signal.getsignal(signal.SIGINT) == before"
    )
    for handler in ("default_int_handler", "SIG_IGN"):
        command = [sys.executable, "-c", script.format(handler=handler)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)
