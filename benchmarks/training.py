"""Fewer timesteps by training: QCFS activations, and fine-tuning with the exits in the loop.

    python benchmarks/training.py --ckpt ann.safetensors --work runs/training

Runs the commands of the package for each seed, one after the other, in ``--work``: train-ann (QCFS, from the
checkpoint), convert, finetune, calibrate-exit. All trainings keep their state there, so that the same command
continues where it was stopped, and a finished part is not run again. Then it measures on the full test split, beside
the checkpoint's ANN and beside the same ANN trained on for as many epochs as the spiking network (QCFS and fine-tuning
together). ``--seeds 0,1,2`` adds seeds; figures of several are given as mean ± standard deviation. With ``--neuron
signed --spikes 4`` a neuron may fire four times in a step, or take back: a step then says as much as a QCFS activation
of four levels, and its spikes are several.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import (
    RESULTS,
    SpikeCount,
    ann_answers,
    conclude,
    drop_in_points,
    load_subject,
    snn_answers,
    subject_options,
    with_exits,
)

import seenn
from seenn.data import Split


@dataclass
class Figures:
    """Measured values by name, one a seed; and what else there is to say."""

    values: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)


ANN, TRAINED_ON = "the ANN", "the ANN trained on"
BARS = {
    f"QCFS L=4, T=4: points below {ANN}": 1.0,
    f"QCFS L=4, T=8: points below {ANN}": 0.3,
    f"fine-tuned, T=1: points below {ANN}": 1.0,
    f"fine-tuned, T=2: points below {ANN}": 0.4,
    f"fine-tuned, SEENN-I: points below {ANN}": 0.3,
    "fine-tuned, SEENN-I: mean timesteps": 1.25,
}


def command(*arguments: str) -> None:
    """One command of the package, in a process of its own."""
    click.echo(f"seenn {' '.join(arguments)}", err=True)
    subprocess.run([sys.executable, "-c", "from cli.main import main; main()", *arguments], check=True)


def make(
    work: Path,
    seed: int,
    ckpt: str,
    model: list[str],
    data: list[str],
    budget: dict[str, str],
    amp: bool,
    neuron: str,
    spikes: int,
) -> tuple[Path, Path, Path]:
    """The networks of one seed, those that are not there yet: converted, fine-tuned, and the ANN trained on."""
    folder = work / f"{neuron}-{spikes}"
    folder.mkdir(parents=True, exist_ok=True)
    qcfs, spiking, tuned = work / "qcfs.safetensors", folder / "snn.safetensors", folder / "finetuned.safetensors"
    epochs = f"{trained_on(budget):g}"
    ann = work / f"ann-{epochs}.safetensors"
    shared = ["--seed", str(seed), "--resume", *data, *(["--amp"] if amp else [])]
    validation = ["--validation-images", budget["validation_images"]]
    quantised = ["--activation", "qcfs", "--levels", "4", "--distil", budget["qcfs_distil"]]
    for target, count, options in ((qcfs, budget["qcfs_epochs"], quantised), (ann, epochs, ["--activation", "relu"])):
        if not target.exists():
            options += ["--epochs", count, "--lr", budget["qcfs_lr"], "--run-dir", str(work / f"run-{target.stem}")]
            command("train-ann", *model, "--ckpt", ckpt, *options, *shared, "-o", str(target))
    if not spiking.exists():
        kind = ["--neuron", neuron, "--levels", str(spikes)]
        command("convert", *model, "--ckpt", str(qcfs), *kind, *data, "-o", str(spiking))
    if not tuned.exists():
        rate = ["--lr", budget["lr"]] if "lr" in budget else []
        options = ["-T", "2", "--epochs", budget["epochs"], *rate, "--warmup", "0.1", *validation]
        command(
            "finetune", str(spiking), *options, "--run-dir", str(folder / "run-finetune"), *shared, "-o", str(tuned)
        )
    if seenn.load(tuned).policy is None:
        command("calibrate-exit", str(tuned), "--max-accuracy-drop", "0.003", *data)
    return spiking, tuned, ann


def trained_on(budget: dict[str, str]) -> float:
    """Epochs that the spiking network is trained for, after the checkpoint: as many as the ANN beside it."""
    return float(budget["qcfs_epochs"]) + float(budget["epochs"])


def measure(
    spiking: Path, finetuned: Path, anns: dict[str, Tensor], test: Split, limit: int | None, figures: Figures, seed: int
) -> None:
    """All figures of one seed, on the test split; ``anns``: which answers of each ANN are right."""

    def compare(what: str, answers: Tensor) -> None:
        for name, ann in anns.items():
            figures.add(f"{what}: points below {name}", drop_in_points(ann, answers)[0])

    figures.add("ANN trained on (%)", 100 * float(anns[TRAINED_ON].double().mean()))
    qcfs = seenn.load(spiking).network
    answers = snn_answers(qcfs, test, 8, limit)
    for t in (4, 8):
        compare(f"QCFS L=4, T={t}", answers[t - 1])
    _note(figures, f"seed {seed}, QCFS", answers)
    tuned = seenn.load(finetuned)
    answers = snn_answers(tuned.network, test, 2, limit)
    for t in (1, 2):
        compare(f"fine-tuned, T={t}", answers[t - 1])
    _note(figures, f"seed {seed}, fine-tuned", answers)
    if tuned.policy is None:
        raise click.ClickException(f"{finetuned}: the network has no exit policy; run calibrate-exit on it")
    fired = SpikeCount()
    found = with_exits(tuned.network, test, tuned.policy, 2, limit, [fired])
    right = found.labels == test.labels[: len(found)]
    steps = found.exit_timestep.double()
    compare("fine-tuned, SEENN-I", right)
    drop, error = drop_in_points(anns[ANN], right)
    figures.add("fine-tuned, SEENN-I: mean timesteps", float(steps.mean()))
    figures.notes.append(
        f"seed {seed}, SEENN-I: {100 * float(right.double().mean()):.2f} % after {float(steps.mean()):.3f} steps, "
        f"{drop:.2f} ± {error:.2f} points below the ANN (standard error of the paired difference, n = {len(right)}), "
        f"{fired.total / len(right):,.0f} spikes an image."
    )


def _note(figures: Figures, what: str, answers: Tensor) -> None:
    curve = ", ".join(f"{100 * a:.2f}" for a in answers.double().mean(1).tolist())
    figures.notes.append(f"{what}: accuracy after t = 1 … {len(answers)} steps: {curve} %.")


@click.command()
@subject_options
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder of the runs and networks.")
@click.option("--seeds", default="0", show_default=True, help="Separated by commas.")
@click.option("--qcfs-epochs", default="5", show_default=True)
@click.option("--qcfs-lr", default="0.02", show_default=True)
@click.option("--qcfs-distil", default="0", show_default=True, help="The plain ANN's share of the loss.")
@click.option("--epochs", default="5", show_default=True, help="Of fine-tuning.")
@click.option("--lr", help="Of fine-tuning.  [default: as seenn finetune has it]")
@click.option("--validation-images", default="2000", show_default=True)
@click.option("--neuron", type=click.Choice(["if", "burst", "signed"]), default="if", show_default=True)
@click.option("--spikes", type=click.IntRange(1, 127), default=1, show_default=True, help="Most in a step.")
@click.option("--amp", is_flag=True, help="Train in bfloat16 autocast.")
@click.option("--limit", type=int, help="The first so many test images (for a quick look).")
@click.option("--out", default=str(RESULTS / "training"), show_default=True, help="Stem of the result files.")
def main(
    ckpt: str, model: str, model_kwargs: tuple[str, ...], data: str, data_dir: str | None, work: str, seeds: str,
    neuron: str, spikes: int, amp: bool, limit: int | None, out: str, **given: str | None
) -> None:  # fmt: skip
    """Train, convert, fine-tune and measure."""
    budget = {name: value for name, value in given.items() if value is not None}
    named = ["--model", model, *(part for item in model_kwargs for part in ("--model-kwargs", item))]
    where = ["--data", data, *(["--data-dir", data_dir] if data_dir else [])]
    subject = load_subject(ckpt, model, model_kwargs, data, data_dir)
    test = subject.splits.test
    ann = ann_answers(subject.model, test, limit)
    figures = Figures()
    chosen = [int(seed) for seed in seeds.split(",")]
    for seed in chosen:
        folder = Path(work) / f"seed-{seed}"
        spiking, tuned, longer = make(folder, seed, ckpt, named, where, budget, amp, neuron, spikes)
        other = load_subject(str(longer), model, model_kwargs, data, data_dir).model
        with torch.no_grad():
            anns = {ANN: ann, TRAINED_ON: ann_answers(other, test, limit)}
            measure(spiking, tuned, anns, test, limit, figures, seed)
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in budget.items()) + " --amp" * amp
    options += f" --neuron {neuron} --spikes {spikes}"
    kwargs = " ".join(f"--model-kwargs '{item}'" for item in model_kwargs)
    line = f"python benchmarks/training.py --ckpt {Path(ckpt).name} {kwargs} --work DIR --seeds {seeds} {options}"
    rows = [Row("ANN accuracy (%)", 100 * float(ann.double().mean()), None, True, line)]
    for name, values in figures.values.items():
        mean = statistics.fmean(values)
        rows.append(Row.at_most(name, mean, BARS[name], line) if name in BARS else Row(name, mean, None, True, line))
        if len(values) > 1:
            figures.notes.append(f"{name}: {mean:.3f} ± {statistics.stdev(values):.3f} over seeds.")
    if len(chosen) == 1:
        figures.notes.append("One seed: these rows have no spread. More: --seeds 0,1,2 with the same --work.")
    figures.notes.append(
        f"Trained for {budget['qcfs_epochs']} epochs (QCFS, from the checkpoint) and {budget['epochs']} epochs "
        f"(fine-tuning, T = 2). The ANN is the checkpoint as it is; {TRAINED_ON} is the same checkpoint after "
        f"{trained_on(budget):g} more epochs on the labels, trained as the QCFS network but for the imitation."
    )
    neurons = f"{neuron} neurons, up to {spikes} spikes a step"
    title = f"Fewer timesteps by training, {Path(ckpt).stem}, {neurons}, {data}, {len(ann)} test images"
    conclude(out, title, rows, figures.notes)


if __name__ == "__main__":
    main()
