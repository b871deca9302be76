"""``seenn predict`` over tar shards, in processes that are killed or share the work: none lost, none twice."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from interrupts import interrupted
from PIL import Image
from small_snn import tiny_snn

from seenn.answers import FORMATS

COUNTS = (300, 1, 250, 120)  # pictures of a shard
SLOWLY = ("--engine", "int8", "--batch-size", "2")  # exact, and so that it can be stopped in the middle
COMMAND = ("predict", "snn.safetensors", "s-{0..3}.tar", *SLOWLY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shell: Callable[..., object]) -> Path:
    """A network, shards, and ``whole.csv``, what a run answers that nobody stops."""
    folder = tmp_path_factory.mktemp("predict")
    tiny_snn().save(folder / "snn.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (sum(COUNTS), 8, 8), dtype=np.uint8)
    images = iter(pixels)
    for shard, count in enumerate(COUNTS):
        with tarfile.open(folder / f"s-{shard}.tar", "w") as archive:
            for number in range(count):
                content = io.BytesIO()
                Image.fromarray(next(images)).save(content, "PNG")
                member = tarfile.TarInfo(f"{number:04}.png")
                member.size = content.tell()
                archive.addfile(member, io.BytesIO(content.getvalue()))
    shell(folder, *COMMAND, "-o", "whole.csv")
    assert len((folder / "whole.csv").read_text().splitlines()) == 1 + sum(COUNTS)
    return folder


def test_a_run_that_was_killed_goes_on(
    folder: Path, console: list[str], environment: dict[str, str], shell: Callable[..., object]
) -> None:
    answers = folder / "killed.csv"
    command = [*console, *COMMAND, "-o", "killed.csv", "--workers", "1"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if answers.exists() and answers.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 2 <= answers.read_bytes().count(b"\n") < 1 + sum(COUNTS)
    shell(folder, *COMMAND, "-o", "killed.csv", "--resume")
    assert answers.read_text() == (folder / "whole.csv").read_text()


ALONE = """
import itertools, os, pathlib, signal, torch
import seenn
from seenn.answers import Picture, answer_pictures

def read():
    if not pathlib.Path("worker").exists():
        pathlib.Path("worker").write_text(str(os.getpid()))
    return torch.zeros((1, 8, 8), dtype=torch.uint8)

snn = seenn.load("snn.safetensors")
session = snn.session("float32", slots=4096)  # blocks that no pipe holds
rows = answer_pictures(snn, session, itertools.repeat(Picture("a", read)), workers=1)
next(rows)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_workers_of_a_process_that_was_killed_end(folder: Path, environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", ALONE], cwd=folder, env=environment, check=False)
    worker = Path("/proc", (folder / "worker").read_text(), "stat")
    deadline = time.monotonic() + 60
    while worker.exists() and worker.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert time.monotonic() < deadline


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_interrupted_run_says_how_to_go_on(
    folder: Path, console: list[str], environment: dict[str, str], shell: Callable[..., object]
) -> None:
    command = [*console, *COMMAND, "-o", "stopped.csv", "--workers", "1"]
    code, screen = interrupted(command, folder, environment, b"inputs")
    assert code == 130, screen
    assert "the answers so far are kept: the same command with --resume goes on with stopped.csv" in screen
    assert "Traceback" not in screen
    shell(folder, *COMMAND, "-o", "stopped.csv", "--resume")
    assert (folder / "stopped.csv").read_text() == (folder / "whole.csv").read_text()


def test_two_processes_write_what_one_writes(folder: Path, environment: dict[str, str], console: list[str]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", *console]
    done = subprocess.run(
        [*torchrun, *COMMAND, "-o", "two.parquet", "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inputs"] == sum(COUNTS)
    assert list(FORMATS["parquet"].read(folder / "two.parquet")) == list(FORMATS["csv"].read(folder / "whole.csv"))
    assert sorted(path.name for path in folder.glob("two*")) == ["two.parquet", "two.parquet.run.json"]
