"""Full disks, missing permissions, several writers, replaced sources, long streams, threads and forks.

    python benchmarks/hostile.py --work WORK

Each case has its number (``--increments``, ``--images``, ``--trials``): a tenth of them runs in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from bars import Row
from common import RESULTS, conclude
from small_snn import tiny_snn

import seenn
from seenn.errors import CheckpointError, SeennError

COMMAND = "python benchmarks/hostile.py --work WORK"
CLI = [sys.executable, "-c", "from cli.main import main; main()"]
SMALL = 3000  # bytes that a file may have where the disk is full


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Output that cannot be written


def outputs(folder: Path) -> list[str]:
    """Every command that writes, where it may not: what was there stays, one line says why, nothing is left."""
    snn, pictures = folder / "snn.safetensors", folder / "pictures"
    train = ("train-ann", "--model", "resnet18", "--model-kwargs", "channels=(8,8,8,8),layers=(1,1,1,1)")
    _run((*train, "--epochs", "2", "-o", "ann.pth"), folder)
    _run(("convert", *train[1:], "--ckpt", "ann.pth", "-T", "2", "-o", "snn.safetensors"), folder)
    _pictures(pictures)
    commands: dict[str, tuple[tuple[str, ...], str]] = {
        "train-ann": ((*train, "--epochs", "0.2", "-o"), "old.pth"),
        "convert": (("convert", *train[1:], "--ckpt", str(folder / "ann.pth"), "-T", "2", "-o"), "old.safetensors"),
        "calibrate-exit": (("calibrate-exit", str(snn), "--threshold", "0.5", "-o"), "old.safetensors"),
        "finetune": (("finetune", str(snn), "--epochs", "0.2", "-o"), "old.safetensors"),
        "train-direct": (("train-direct", "--width", "0.25", "--epochs", "0.2", "-o"), "old.safetensors"),
        "export": (("export", str(snn), "--to", "integers", "-o"), "old.npz"),
        "predict": (("predict", str(snn), str(pictures), "-o"), "old.csv"),
        "evaluate": (("evaluate", str(snn), "--limit", "64", "--report"), "report"),
    }
    faults = []
    for what, limit in LIMITS.items():
        for command, (arguments, name) in commands.items():
            where = folder / f"{what.replace(' ', '-')}-{command}"
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir()
            target = where / name
            if command != "evaluate":
                target.write_bytes(b"what was there before\n")
            before = _content(where)
            os.chmod(where, 0o555 if what == "no permission" else 0o755)
            run = subprocess.run(
                [*limit, *CLI, *arguments, str(target)], cwd=folder, capture_output=True, text=True,
                env={**os.environ, "COLUMNS": "400"},
            )  # fmt: skip
            os.chmod(where, 0o755)
            after = _content(where)
            last = run.stderr.strip().splitlines()[-1] if run.stderr.strip() else ""
            told = run.returncode in (1, 2) and last.startswith("error: ") and "Traceback" not in run.stderr
            if not told or after != before:
                left = sorted(set(after) ^ set(before))
                faults.append(f"{what}, {command}: code {run.returncode}, {last[:200]!r}, files {left}")
    return faults


def _content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): _digest(path) if path.is_file() else "" for path in folder.rglob("*")}


#: Programs that run a command so. Root may write anywhere, unless it is taken from it.
LIMITS = {
    "full disk": ("prlimit", f"--fsize={SMALL}"),
    "no permission": ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else (),
}


def _run(arguments: Sequence[str], folder: Path) -> None:
    subprocess.run([*CLI, *arguments], cwd=folder, check=True, capture_output=True)


def _pictures(folder: Path) -> None:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for number in range(200):
        Image.new("L", (8, 8), number).save(folder / f"{number:03}.png")


# Several writers of one file


def writers(folder: Path, increments: int, processes: int = 3) -> list[str]:
    """Processes that count in one file's manifest: every count that was said to be written is in it at the end."""
    path = folder / "counted.safetensors"
    replace(tiny_snn(), manifest={"timesteps": 4, "class_names": ["a", "b", "c"], "count": 0}).save(path)
    context = get_context("fork")
    with context.Pool(processes) as pool:
        done = pool.map(_count, [(str(path), increments // processes)] * processes)
    found = seenn.load(path).manifest["count"]
    return [] if found == sum(done) else [f"{sum(done)} counts were written, and the file holds {found}"]


def _count(task: tuple[str, int]) -> int:
    path, increments = Path(task[0]), task[1]
    done = 0
    while done < increments:
        snn = seenn.load(path)
        try:
            count = snn.manifest["count"] + 1
            replace(snn, manifest={**snn.manifest, "count": count}).save(path)
        except CheckpointError:  # somebody else was faster
            continue
        done += 1
    return done


# Long streams


class _Unwell(Exception):
    """What a source fails with."""


def stream(images: int, engine: str) -> tuple[list[str], float]:
    """All answered, each once, in order, from a source that is slow now and then; memory after all ÷ after a tenth."""
    snn, shown = tiny_snn(), torch.rand(64, 1, 8, 8)
    session = snn.session(engine, slots=32)
    expected = session.run(snn.batch(shown)).labels.tolist()
    order = random.Random(0).choices(range(len(shown)), k=images)

    def source() -> Iterator[seenn.Request]:
        for number, chosen in enumerate(order):
            if number % 997 == 0:
                time.sleep(0.001)
            yield seenn.Request(image=shown[chosen])

    early, number = 0, -1
    for number, answer in enumerate(session.stream(source())):
        if answer.index != number or answer.label != expected[order[number]]:
            return [f"answer {number} is {answer.index}, label {answer.label}"], 1.0
        if number == images // 10:
            early = _resident()
    faults = [] if number + 1 == images else [f"{number + 1} answers to {images} images"]
    return faults, _resident() / early


def failing(trials: int, engine: str) -> list[str]:
    """Sources that fail somewhere: everything before is answered, then the source's own error comes."""
    snn, shown, draw = tiny_snn(), torch.rand(8, 1, 8, 8), random.Random(1)
    faults = []
    for trial in range(trials):
        whole = draw.randrange(100)

        def source(whole: int = whole) -> Iterator[seenn.Request]:
            yield from (seenn.Request(image=shown[number % len(shown)]) for number in range(whole))
            raise _Unwell

        answers = snn.session(engine, slots=draw.choice((1, 4, 32))).stream(source())
        answered = []
        with suppress(_Unwell):
            while True:
                answered.append(next(answers).index)
        if answered != list(range(whole)):
            faults.append(f"failing source {trial}: {len(answered)} of {whole} answered")
    return faults


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


# Threads and forks


def shared(threads: int, runs: int, engine: str) -> list[str]:
    """One network, and one engine of it, used by threads and by a fork at once: the same answers."""
    snn, images = tiny_snn(), torch.rand(64, 1, 8, 8)
    session = snn.session(engine, slots=16)
    batch = snn.batch(images)
    expected = session.run(batch).logits_sum
    faults: list[str] = []

    def work() -> None:
        for _ in range(runs):
            same = torch.equal(session.run(batch).logits_sum, expected)
            faults.extend(() if same else ("threads: other answers",))

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    process = os.fork()
    if not process:
        same = torch.equal(session.run(batch).logits_sum, expected)
        os._exit(0 if same else 1)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        faults.append("fork: other answers")
    return faults


# Replaced while it is read


def replaced(folder: Path, trials: int) -> list[str]:
    """A file that is replaced while a command works on it: refused, and the new one stays."""
    faults, path = [], folder / "replaced.safetensors"
    for trial in range(trials):
        first, second = tiny_snn(), replace(tiny_snn(), manifest={"timesteps": 4, "class_names": ["x", "y", "z"]})
        first.save(path)
        loaded = seenn.load(path)
        second.save(path)
        kept = _digest(path)
        try:
            loaded.save(path)
            faults.append(f"replaced {trial}: written over")
        except SeennError:
            pass
        if _digest(path) != kept:
            faults.append(f"replaced {trial}: the new file is gone")
    return faults


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for files.")
@click.option("--images", default=100_000, show_default=True, help="Of the stream.")
@click.option("--increments", default=600, show_default=True, help="Writes of several processes to one file.")
@click.option("--trials", default=100, show_default=True, help="Of sources that are replaced, or fail, and of threads.")
@click.option("--engine", default="auto", show_default=True)
@click.option("--outputs/--no-outputs", "with_outputs", default=True, help="Whether commands run without a disk.")
@click.option("--out", help="Stem of the result files; benchmarks/results/hostile where all runs.")
def main(
    work: str, images: int, increments: int, trials: int, engine: str, with_outputs: bool, out: str | None
) -> None:
    """Run all of it, write the table."""
    folder = Path(work).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows: list[Row] = []
    notes: list[str] = []

    def case(name: str, faults: Sequence[str]) -> None:
        rows.append(Row.at_most(f"{name}: faults", len(faults), 0, COMMAND))
        notes.extend(f"- {name}: {fault}" for fault in faults)
        click.echo(f"{name}: {json.dumps(list(faults))}")

    if with_outputs:
        case("full disk and no permission, eight commands each", outputs(folder))
    case(f"{increments} writes by three processes", writers(folder, increments))
    case(f"source replaced meanwhile, {trials} times", replaced(folder, trials))
    case("8 threads and a fork on one network", shared(8, -(-trials // 2), engine))
    case(f"{2 * trials} failing sources", failing(2 * trials, engine))
    faults, growth = stream(images, engine)
    case(f"stream of {images:,} images", faults)
    rows.append(Row.at_most("stream: memory at the end ÷ after a tenth", growth, 1.01, COMMAND))
    if out is None and with_outputs and images >= 100_000:
        out = str(RESULTS / "hostile")
    if out is not None:
        conclude(out, "Hostile surroundings", rows, notes)
    elif notes:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
