"""Killed at a random moment, then resumed or repeated: the same bytes as if nothing had happened.

    python benchmarks/kills.py --work WORK

Each trial runs one of four commands in a process of its own, kills it (SIGKILL) somewhere in the time that it took
undisturbed, perhaps kills what goes on as well, lets the last one end, and compares every file that stays. Processes
are forked from one that has imported everything, so that moments fall into the work and not into imports.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row

COMMAND = "python benchmarks/kills.py --work WORK"
TRIALS = 200
AGAIN = 0.3  # of killed processes whose successor is killed, too


@dataclass(frozen=True)
class Task:
    """A command, how it goes on after a kill, and the files in which it ends."""

    arguments: Sequence[str]
    goes_on: Sequence[str]
    ends_in: Sequence[str]


_NARROW = ("--model", "resnet18", "--model-kwargs", "channels=(8,8,8,8),layers=(1,1,1,1)")
_OFTEN = ("--run-dir", "run", "--save-every", "5", "--seed", "3")
TASKS = {
    "train-ann": Task(
        ("train-ann", *_NARROW, "--epochs", "1", *_OFTEN), ("--resume",), ("ann.pth", "run/metrics.jsonl")
    ),
    "finetune": Task(
        ("finetune", "snn.safetensors", "--epochs", "1", "-o", "tuned.safetensors", *_OFTEN),
        ("--resume",),
        ("tuned.safetensors", "run/metrics.jsonl"),
    ),
    "train-policy": Task(
        ("train-policy", "--snn", "snn.safetensors", "--limit", "100", "--epochs", "1", *_OFTEN),
        ("--resume",),
        ("snn.safetensors",),
    ),
    "calibrate-exit": Task(
        ("calibrate-exit", "snn.safetensors", "--max-accuracy-drop", "0.02"), (), ("snn.safetensors",)
    ),
}


def _import_all() -> None:
    """What commands import, once for all of them."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import timm  # noqa: F401
    import torch

    import converter  # noqa: F401
    import seenn.training  # noqa: F401
    from cli.main import seenn as front_door

    for name in TASKS:
        front_door.get_command(None, name)  # type: ignore[arg-type]
    torch.set_num_threads(1)


def prepared(folder: Path) -> None:
    """A spiking network to begin with."""
    if not (folder / "snn.safetensors").is_file():
        for arguments in (
            ("train-ann", *_NARROW, "--epochs", "3"),
            ("convert", *_NARROW, "--ckpt", "ann.pth", "-T", "2", "--calibration-images", "64"),
        ):
            if code := _end(_started(arguments, folder)):
                raise click.ClickException(f"seenn {' '.join(arguments)} ended with {code}: see {folder / 'log'}")


def _started(arguments: Sequence[str], folder: Path) -> int:
    """The process of a command in ``folder``."""
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(folder)
        log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from cli.main import main

        sys.argv = ["seenn", *arguments]
        main()
        os._exit(0)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def _end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def undisturbed(task: Task, begin: Path, folder: Path) -> tuple[float, dict[str, str]]:
    """Seconds that it takes, and what it leaves."""
    _fresh(begin, folder)
    started = time.perf_counter()
    if code := _end(_started(task.arguments, folder)):
        raise click.ClickException(f"seenn {' '.join(task.arguments)} ended with {code}: see {folder / 'log'}")
    return time.perf_counter() - started, _digests(task, folder)


def trial(task: Task, begin: Path, folder: Path, seconds: float, draw: random.Random) -> tuple[int, dict[str, str]]:
    """Kills, goes on, ends: how often it was killed, and what is left."""
    _fresh(begin, folder)
    kills, arguments = 0, task.arguments
    while kills == 0 or draw.random() < AGAIN:
        process = _started(arguments, folder)
        time.sleep(draw.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        kills += _end(process) == -signal.SIGKILL
        if not (folder / "run").is_dir() and task.goes_on:
            arguments = task.arguments  # it had not begun
        else:
            arguments = (*task.arguments, *task.goes_on)
        if kills == 0:  # it was faster this time
            break
    if code := _end(_started(arguments, folder)):
        return kills, {"ended with": str(code)}
    return kills, _digests(task, folder)


def _fresh(begin: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(begin / "snn.safetensors", folder)


def _digests(task: Task, folder: Path) -> dict[str, str]:
    """By file; of metrics without the seconds, which are never the same. Temporary files must be gone."""
    found = {}
    for name in task.ends_in:
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if name.endswith(".jsonl"):
            rows = [json.loads(line) for line in content.splitlines()]
            content = json.dumps([{k: v for k, v in row.items() if "seconds" not in k} for row in rows]).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    left = [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]
    return found | ({"temporary files": " ".join(left)} if left else {})


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for runs.")
@click.option("--trials", default=TRIALS, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True)
@click.option("--out", help="Stem of the result files; none when not given.")
def main(work: str, trials: int, seed: int, out: str | None) -> None:
    """Kill, go on, compare."""
    _import_all()
    folder = Path(work).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    prepared(folder)
    draw = random.Random(seed)
    known = cache(lambda name: undisturbed(TASKS[name], folder, folder / name))
    kept, kills, faults = 0, 0, []
    for number in range(trials):
        name = list(TASKS)[number % len(TASKS)]
        seconds, expected = known(name)
        killed, found = trial(TASKS[name], folder, folder / "trial", seconds, draw)
        kills += killed
        kept += found == expected
        if found != expected:
            faults.append(f"trial {number}, {name}: {found}, expected {expected}")
            shutil.copytree(folder / "trial", folder / f"fault-{number}", dirs_exist_ok=True)
            click.echo(faults[-1])
    click.echo(f"{kept} of {trials} the same bit for bit, after {kills} kills")
    if out is not None:
        from common import conclude

        rows = [
            Row.at_least(f"killed, then resumed or repeated: the same, of {trials}", kept, trials, COMMAND),
            Row("kills", kills, None, True, COMMAND),
        ]
        conclude(out, "Killed at random moments", rows, faults)
    elif faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
