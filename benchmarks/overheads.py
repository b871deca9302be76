"""What stands beside the steps themselves: calibrating an exit, and starting a process that runs in int8.

    python benchmarks/overheads.py snn.safetensors

Calibration runs every image for all T steps, and counts its spikes and synaptic operations: its time is compared with T
passes of the ANN in torch on the same images, in turns. A start is measured in processes of their own, from the end of
``import torch`` to an int8 engine of the network, after a first process has filled the cache of compiled code.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

import seenn
from seenn import SNN
from seenn.analysis.bench.machine import this_machine
from seenn.analysis.collect import collect_run
from seenn.data.provenance import load_recorded_data

REPEATS, STARTS, BATCH = 3, 5, 64
START = """
import sys, time
import torch
begin = time.perf_counter()
import seenn
seenn.load(sys.argv[1]).make_engine("int8")
print(time.perf_counter() - begin)
"""


def seconds(work: Callable[[], object]) -> float:
    """What one call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def calibration_ratio(snn: SNN, engine: str, images: int, data_dir: str | None) -> list[float]:
    """Time of a calibration's run over that of T passes of the ANN, for each repeat."""
    split = load_recorded_data(snn.manifest, snn.preprocessing, data_dir=data_dir).exit
    runner, ann = snn.make_engine(engine), snn.network.analog().eval()
    batches = split.batch(limit=images).inputs.split(BATCH)

    @torch.no_grad()
    def passes() -> None:
        for _ in range(snn.timesteps):
            for batch in batches:
                ann(batch)

    def calibration() -> None:
        collect_run(snn.network, split, snn.timesteps, engine=runner, batch_size=BATCH, limit=images)

    for batch in batches[:2]:
        ann(batch)
    collect_run(snn.network, split, snn.timesteps, engine=runner, batch_size=BATCH, limit=2 * BATCH)
    return [seconds(calibration) / seconds(passes) for _ in range(REPEATS)]


def start(snn: str) -> float:
    """Seconds from ``import torch`` to an int8 engine, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", START, snn], check=True, capture_output=True, text=True)
    return float(done.stdout)


@click.command()
@click.argument("snn", type=click.Path(exists=True, dir_okay=False))
@click.option("--images", default=8000, show_default=True, type=click.IntRange(min=1), help="Of the exit split.")
@click.option("--data-dir", help="Folder with the data set's files, if it moved.")
@click.option("--out", default=str(RESULTS / "overheads"), show_default=True, help="Path without suffix.")
def main(snn: str, images: int, data_dir: str | None, out: str) -> None:
    """Measures both for the network in SNN, which needs an ANN behind it."""
    network = seenn.load(snn)
    line = f"python benchmarks/overheads.py {Path(snn).name} --images {images}"
    rows = []
    for engine, bar in (("int8", 1.3), ("float32", None), ("reference", None)):
        found = calibration_ratio(network, engine, images if bar else min(images, 1000), data_dir)
        name = f"calibrate-exit on {engine}: time / {network.timesteps} passes of the ANN"
        middle = statistics.median(found)
        rows.append(Row(name, middle, None, True, line) if bar is None else Row.at_most(name, middle, bar, line))
        click.echo(f"{name}: {', '.join(f'{value:.2f}' for value in found)}", err=True)
    start(snn)
    starts = [start(snn) for _ in range(STARTS)]
    rows.append(Row.at_most("start of an int8 engine beyond torch's (s)", statistics.median(starts), 0.3, line))
    notes = [
        str(this_machine()),
        f"Medians of {REPEATS} runs and {STARTS} starts; {images:,} images on int8, at most 1,000 on the others, "
        f"{BATCH} at once.",
    ]
    conclude(out, "What stands beside the steps", rows, notes)


if __name__ == "__main__":
    main()
