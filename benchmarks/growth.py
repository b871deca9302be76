"""How the cost of running grows: with steps, with images at once, with width and image size; and memory with T.

    python benchmarks/growth.py

The network is a residual one with random weights, in the int8 engine: what it answers does not matter here. Sizes
alternate; medians are compared. Memory is the peak of a process of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

from seenn.analysis.bench.machine import this_machine
from seenn.analysis.bench.plots import growth_chart
from seenn.analysis.bench.timing import Growth, grow, grow_timesteps, step_of
from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AdaptiveAvgPool2d, Add, Conv2d, Flatten, IFNeuron, Linear, State
from seenn.data.preprocessing import Preprocessing
from seenn.exits import FixedExit, Progress, softmax_confidence
from seenn.runtime import Engine, Session, make_engine

BATCHES, WIDTHS, SIDES = (1, 8, 32, 128), (16, 32, 64, 128), (14, 28, 56, 112)
TIMESTEPS = {1: (4, 8, 16, 32), 8: (4, 8, 16, 32), 32: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8)}  # no run of a few ms
LONGEST, SHORT = 32, 4  # T of the runs whose memory is compared


def network(width: int, side: int) -> SpikingNetwork:
    """A stem and three residual blocks of ``width`` channels, the last two at half the size."""
    random = torch.Generator().manual_seed(0)

    def conv(inputs: int, stride: int = 1) -> Conv2d:
        weight = torch.randn(width, inputs, 3, 3, generator=random) / (4.5 * inputs) ** 0.5
        return Conv2d(weight, stride=stride, padding=1)

    def neuron() -> IFNeuron:
        return IFNeuron(torch.ones(width), signed=True)

    nodes = [Node("stem", conv(1), (INPUT,)), Node("fire0", neuron(), ("stem",))]
    last = "fire0"
    for block, stride in enumerate((1, 2, 1), start=1):
        nodes.append(Node(f"conv{block}a", conv(width, stride), (last,)))
        nodes.append(Node(f"fire{block}a", neuron(), (f"conv{block}a",)))
        nodes.append(Node(f"conv{block}b", conv(width), (f"fire{block}a",)))
        if stride > 1:
            nodes.append(Node(f"short{block}", conv(width, stride), (last,)))
            last = f"short{block}"
        nodes.append(Node(f"add{block}", Add(), (f"conv{block}b", last)))
        nodes.append(Node(f"fire{block}b", neuron(), (f"add{block}",)))
        last = f"fire{block}b"
    nodes += [Node("mean", AdaptiveAvgPool2d(), (last,)), Node("flat", Flatten(), ("mean",))]
    nodes.append(Node("head", Linear(torch.randn(10, width, generator=random) / width**0.5), ("flat",)))
    return SpikingNetwork(OpGraph(nodes, "head"), (1, side, side)).requires_grad_(False).eval()


def pictures(count: int, side: int = 28) -> Tensor:
    """Random ones."""
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


def sized(width: int = 32, side: int = 28, timesteps: int = LONGEST) -> Engine:
    """An engine for images of ``side``."""
    plain = Preprocessing(channels=1, height=side, width=side, mean=(0.0,), std=(1.0,))
    return make_engine("int8", network(width, side), timesteps=timesteps, preprocessing=plain)


@dataclass(frozen=True)
class Scattered:
    """Each image stops somewhere in 1 … 2·mean − 1, where its pixels say."""

    mean: int

    def start(self, images: Tensor) -> State:
        return (1 + (1e4 * images.flatten(1).sum(1)).long() % (2 * self.mean - 1),)

    def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return progress.t >= state[0], state

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(progress.t, logits_sum)


def with_exits(engine: Engine, repeats: int) -> Growth:
    """128 images that exit at different times through 32 slots, against the steps that were really run."""
    images = Batch.of(pictures(128), engine.input_shape)
    sessions = {mean: Session(engine, Scattered(mean), LONGEST, 32) for mean in (1, 2, 4, 8, 16)}

    def run(mean: int) -> int:
        return int(sessions[mean].run([images]).exit_timestep.sum())

    means = {run(mean): mean for mean in sessions}
    work = {steps: (lambda mean=mean: run(mean)) for steps, mean in means.items()}
    return grow("steps run, with exits", work, repeats)


def memory(repeats: int, command: str) -> tuple[Row, str]:
    """Peak resident memory of a run at a long T over one at a short T, each in a process that only loads and runs."""
    runs = [{t: _peak(t) for t in (0, SHORT, LONGEST)} for _ in range(repeats)]  # in turn
    peak = {t: statistics.median(run[t] for run in runs) for t in runs[0]}
    spread = {t: f"{min(run[t] for run in runs) / 1024:.1f} to {max(run[t] for run in runs) / 1024:.1f}" for t in peak}
    note = (
        f"Peak resident MiB, 64 images in 64 slots, minimum to maximum of {repeats} runs in turn: {spread[SHORT]} at "
        f"T={SHORT}, {spread[LONGEST]} at T={LONGEST}, {spread[0]} where the engine is made and nothing runs; the "
        "medians enter the row, the last one subtracted from both."
    )
    growth = (peak[LONGEST] - peak[0]) / (peak[SHORT] - peak[0])
    return Row.within(f"peak memory of a run at T={LONGEST} / T={SHORT}", growth, 1.0, 0.05, command), note


def _peak(timesteps: int) -> int:
    """KiB, as a fresh process of this script sees itself."""
    done = subprocess.run(
        [sys.executable, __file__, "--run", str(timesteps)], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def _run(timesteps: int) -> None:
    engine = sized()
    if timesteps:
        Session(engine, FixedExit(), timesteps, 64).run([Batch.of(pictures(64), engine.input_shape)])
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's peak too
    click.echo(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


@click.command()
@click.option("--repeats", default=5, show_default=True, help="Runs of every timing.")
@click.option("--out", default=str(RESULTS / "growth"), show_default=True, help="Stem of the result files.")
def main(repeats: int, out: str) -> None:
    """Measure all of it."""
    command = "python benchmarks/growth.py"
    engine = sized()
    rows, growths = [], []
    for batch, timesteps in TIMESTEPS.items():
        more = repeats * max(1, 8 // batch)  # short runs are disturbed most
        of = f"timesteps, {batch} images"
        found = grow_timesteps(engine, pictures(batch), more, timesteps=timesteps, of=of)
        growths.append(found)
        click.echo(f"{found.of}: {found.slope:.3f}", err=True)
        rows.append(Row.within(f"log-log slope of time over {found.of}", found.slope, 1.0, 0.05, command))
    exits = with_exits(engine, repeats)
    rows.append(Row.within("log-log slope of time over steps run, with exits", exits.slope, 1.0, 0.05, command))
    slots = grow("slots", {size: step_of(engine, pictures(size)) for size in BATCHES}, repeats)
    widths = grow("width", {width: step_of(sized(width, timesteps=1), pictures(8)) for width in WIDTHS}, repeats)
    sides = grow(
        "image side", {side: step_of(sized(side=side, timesteps=1), pictures(8, side)) for side in SIDES}, repeats
    )
    for found, expected in ((slots, 1), (widths, 2), (sides, 2)):
        name = f"log-log slope of a step's time over {found.of} (multiply-accumulates grow by {expected})"
        rows.append(Row(name, found.slope, None, True, command))
    row, note = memory(max(3, repeats // 2), command)
    notes = [f"{this_machine()}; {engine.note}.", note]
    for found in (*growths, exits, slots, widths, sides):
        times = ", ".join(
            f"{size}: {1000 * t.median:.2f} ({1000 * min(t.seconds):.2f} to {1000 * max(t.seconds):.2f})"
            for size, t in found.times.items()
        )
        notes.append(f"ms by {found.of}, median (minimum to maximum): {times}.")
    stem = Path(out)
    chart = growth_chart((growths[2], exits, slots, widths, sides), "int8 engine, random weights")
    chart.draw(stem.with_suffix(".png"))
    notes.append(f"![growth]({stem.name}.png)")
    conclude(out, "Growth of time and memory", [*rows, row], notes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        _run(int(sys.argv[2]))
    else:
        main()
