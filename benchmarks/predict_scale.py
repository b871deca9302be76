"""``seenn predict`` over very many pictures: memory, nothing lost or twice across a kill, speed beside the engine's.

Half of the pictures are files in folders, half lie in tar shards; JPEG and PNG by turns. All commands run as processes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from bars import Row
from common import RESULTS, conclude
from PIL import Image

from seenn.batch import Batch
from seenn.checkpoint import load
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AvgPool2d, Conv2d, Flatten, IFNeuron, Linear
from seenn.data import Preprocessing
from seenn.exits import ConfidenceExit
from seenn.snn import SNN

SIDE = 64  # pixels of a picture; the network takes 32
SHARD = 1000  # pictures
SEENN = [sys.executable, "-c", "from cli.main import main; main()"]
WARM_UP = 0.2  # share of the pictures after which memory must not grow
POLL, ASK = 0.5, 4  # seconds; every how many of them memory is asked for, which costs 50 ms of the same cores


@dataclass(frozen=True)
class Run:
    """What a command did."""

    seconds: float  # from the first answers on, of so many pictures
    cpu_seconds: float  # likewise, of the process that answers
    pictures: int
    memory: list[tuple[int, int]]  # pictures answered, and bytes of all its processes


def make_network(path: Path) -> None:
    """A convolutional network for 32×32 colour; what it answers does not matter."""
    random = torch.Generator().manual_seed(0)
    nodes: list[Node] = []
    before, channels = INPUT, 3
    for depth, width in enumerate((32, 64, 64)):
        weight = torch.randn(width, channels, 3, 3, generator=random) * (2 / (9 * channels)) ** 0.5
        nodes += [Node(f"conv{depth}", Conv2d(weight, padding=1), (before,))]
        nodes += [Node(f"relu{depth}", IFNeuron(1.0, max_spikes=4), (f"conv{depth}",))]
        nodes += [Node(f"pool{depth}", AvgPool2d(kernel=2, stride=2), (f"relu{depth}",))]
        before, channels = f"pool{depth}", width
    nodes += [
        Node("flat", Flatten(), (before,)),
        Node("head", Linear(torch.randn(10, 1024, generator=random)), ("flat",)),
    ]
    SNN(
        network=SpikingNetwork(OpGraph(nodes, "head"), (3, 32, 32)).requires_grad_(False),
        preprocessing=Preprocessing(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3),
        manifest={"timesteps": 4},
        policy=ConfidenceExit(threshold=0.9),
    ).save(path)


def make_pictures(folder: Path, count: int) -> list[str]:
    """``count`` different pictures; returns the paths that answers should have, in their order."""
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (256, 8, 8, 3), dtype=np.uint8)

    def content(number: int) -> tuple[str, bytes]:
        small = np.roll(blocks[number % 256], number // 256, axis=(0, 1)) ^ np.uint8(number // 1024)
        kind = "JPEG" if number % 2 else "PNG"
        stream = io.BytesIO()
        Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(stream, kind)
        return f"{number:06}.{kind.lower()}", stream.getvalue()

    paths = []
    for start in range(0, count // 2, SHARD):
        part = folder / "files" / f"{start // SHARD:03}"
        part.mkdir(parents=True)
        for number in range(start, min(start + SHARD, count // 2)):
            name, data = content(number)
            (part / name).write_bytes(data)
            paths.append(f"files/{part.name}/{name}")
    for shard, start in enumerate(range(count // 2, count, SHARD)):
        with tarfile.open(folder / f"shard-{shard:03}.tar", "w") as archive:
            for number in range(start, min(start + SHARD, count)):
                name, data = content(number)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
                paths.append(f"shard-{shard:03}.tar/{name}")
    return paths


def predict(folder: Path, inputs: list[str], out: str, workers: int, *options: str, kill_at: int | None = None) -> Run:
    """Runs the command, and watches the file of its answers and its memory; kills it (SIGKILL) at so many answers."""
    command = [*SEENN, "predict", "snn.safetensors", *inputs, "-o", out, "--workers", str(workers), *options]
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    file, size, lines = folder / out, 0, 0
    memory: list[tuple[int, int]] = []
    seen: list[tuple[int, float, float]] = []  # pictures answered, wall and CPU seconds
    turn = 0
    while process.poll() is None:
        time.sleep(POLL)
        turn += 1
        if file.exists() and file.stat().st_size > size:
            with file.open("rb") as stream:
                stream.seek(size)
                new = stream.read()
            size, lines = size + len(new), lines + new.count(b"\n")
            seen.append((lines, time.perf_counter(), cpu_seconds(process.pid)))
        if turn % ASK == 0:
            memory.append((lines, own_memory(process.pid)))
        if kill_at is not None and lines >= kill_at:
            process.kill()
    if process.returncode and kill_at is None:
        raise click.ClickException((folder / "log").read_text()[-2000:])
    (first, wall, cpu), (last, wall_end, cpu_end) = seen[0], seen[-2]  # at the last one it may have ended
    return Run(wall_end - wall, cpu_end - cpu, last - first, memory)


def cpu_seconds(pid: int) -> float:
    """Of a process, so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def own_memory(pid: int) -> int:
    """Bytes of a process and its children beside mapped files, pages that they share counted once (Linux: PSS)."""
    total = 0
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        for each in [str(pid), *children.read_text().split()]:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            kinds = [line.split() for line in rollup.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
            total += sum(int(size) << 10 for _, size, _ in kinds)
    except OSError:  # one of them has just ended
        return 0
    return total


def growth(memory: list[tuple[int, int]], count: int) -> float:
    """By how many percent the last fifth's median memory is above that of the fifth after the warm-up."""
    used = [(done, held) for done, held in memory if held]
    early = [held for done, held in used if WARM_UP * count <= done < 2 * WARM_UP * count]
    late = [held for done, held in used if done >= (1 - WARM_UP) * count]
    return 100 * (float(np.median(late)) / float(np.median(early)) - 1)


def engine_speed(path: Path, folder: Path, paths: list[str]) -> tuple[float, float]:
    """Pictures/s and per CPU second of the engine alone: the first of the files, prepared and in memory."""
    snn = load(path)
    batch = snn.batch([folder / name for name in paths[:2048]])
    session = snn.session(slots=64)
    rates = []
    for _ in range(3):
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in session.answers(Batch(batch.inputs).split(64)):
            pass
        rates.append((len(batch) / (time.perf_counter() - begin), len(batch) / (time.process_time() - cpu)))
    wall, of_cpu = np.median(rates, axis=0).tolist()
    return wall, of_cpu


@click.command()
@click.option("--count", default=100_000, show_default=True, help="Pictures.")
@click.option("--workers", default=1, show_default=True, help="Processes that decode.")
@click.option("--out", default=str(RESULTS / "predict_scale"), help="Path without suffix.")
def main(count: int, workers: int, out: str) -> None:
    """Makes the pictures, answers them in one go and with a kill in the middle, and writes the table."""
    command = f"python benchmarks/predict_scale.py --count {count} --workers {workers}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_network(folder / "snn.safetensors")
        paths = make_pictures(folder, count)
        click.echo(f"{count} pictures")
        inputs = ["files", "shard-{000..%03d}.tar" % (-(-(count - count // 2) // SHARD) - 1)]  # noqa: UP031
        before = engine_speed(folder / "snn.safetensors", folder, paths)
        whole = predict(folder, inputs, "whole.csv", workers)
        after = engine_speed(folder / "snn.safetensors", folder, paths)
        engine, engine_cpu = ((a + b) / 2 for a, b in zip(before, after, strict=True))
        rate, rate_cpu = whole.pictures / whole.seconds, whole.pictures / whole.cpu_seconds
        click.echo(f"engine {engine:.0f} pictures/s, command {rate:.0f} pictures/s")
        predict(folder, inputs, "killed.csv", workers, kill_at=count // 2)
        with (folder / "killed.csv").open("rb") as stream:
            kept = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b"")) - 1
        predict(folder, inputs, "killed.csv", workers, "--resume")
        with (folder / "killed.csv").open(newline="") as text:
            times = Counter(row["path"] for row in csv.DictReader(text))
        same = (folder / "whole.csv").read_bytes() == (folder / "killed.csv").read_bytes()
        summary = json.loads((folder / "killed.csv.run.json").read_text())["summary"]
    cores = len(os.sched_getaffinity(0))
    rows = [
        Row.at_most("memory of all processes: growth after the warm-up (%)", growth(whole.memory, count), 5, command),
        Row("memory of all processes: most (MiB)", max(m for _, m in whole.memory) / 2**20, None, True, command),
        Row.at_most("pictures lost, killed and gone on", len(set(paths) - set(times)), 0, command),
        Row.at_most("pictures answered twice, killed and gone on", sum(n > 1 for n in times.values()), 0, command),
        Row.at_most("pictures that could not be read", summary["unreadable"], 0, command),
        Row.at_least("the file is that of the run that was not killed (1: yes)", int(same), 1, command),
        Row("answers kept at the kill (SIGKILL)", kept, None, True, command),
        Row("engine alone, pictures in memory (images/s)", engine, None, True, command),
        Row("seenn predict, from the first answers on (images/s)", rate, None, True, command),
        Row.at_least("images/s ÷ engine images/s", rate / engine, 0.8, command),
        Row("the same per CPU second of the process that answers", rate_cpu / engine_cpu, None, True, command),
    ]
    workers_are = "process" if workers == 1 else "processes"
    notes = [
        f"{count} generated pictures of {SIDE}×{SIDE} pixels, JPEG and PNG by turns, half in folders, half in tar "
        f"files of {SHARD}; a network of three convolutions on 32×32, T = 4, exits by confidence. {workers} decoding "
        f"{workers_are} beside the engine's {torch.get_num_threads()} thread(s) on {cores} cores, which others use as "
        f"well: the load was {os.getloadavg()[2]:.1f} in the last 15 minutes. Speed in wall time is what was left of "
        "the machine; per CPU second of the answering process (which decodes nothing) it is what reading, queues and "
        "writing cost beside the engine. The engine's speed is the mean of one measurement before and one after. "
        "Memory is what all processes hold together beside mapped files: the median of the last fifth of the pictures "
        "against that of the second fifth.",
    ]
    conclude(out, "Predictions for very many pictures", rows, notes)


if __name__ == "__main__":
    main()
