"""Conversion without fine-tuning, on the full test split: accuracy lost, and early exit.

    python benchmarks/conversion.py --ckpt ann.pth

Thresholds come from 512 images of the calibration split, the exit threshold from the exit split; every figure
is measured on the test split, which nothing else looks at.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import (
    RESULTS,
    Subject,
    ann_answers,
    conclude,
    drop_in_points,
    load_subject,
    snn_answers,
    subject_options,
    with_exits,
)

from converter import ConvertConfig, convert_module
from seenn.analysis.collect import collect_run
from seenn.core.network import SpikingNetwork
from seenn.exits import ConfidenceExit, find_exit

BARS = (  # name, kind of neuron, Γ, correction, T, points below the ANN at most
    ("binary unsigned IF", "if", 1, "joint", 8, 3.0),
    ("binary unsigned IF", "if", 1, "joint", 16, 1.0),
    ("signed IF", "signed", 1, "potential", 4, 2.5),
    ("signed IF", "signed", 1, "potential", 8, 0.6),
    ("signed, up to 4 spikes a step", "signed", 4, "potential", 4, 0.8),
    ("signed, up to 4 spikes a step", "signed", 4, "potential", 8, 0.3),
)
CALIBRATION_IMAGES = 512


def accuracy_rows(
    subject: Subject, command: str, limit: int | None
) -> tuple[list[Row], list[str], SpikingNetwork, Tensor]:
    """Points below the ANN for each neuron and T, each converted for that T; and the last network's answers."""
    images = subject.splits.calibration.images(limit=CALIBRATION_IMAGES)
    ann = ann_answers(subject.model, subject.splits.test, limit)
    rows = [Row("ANN accuracy (%)", 100 * float(ann.double().mean()), None, True, command)]
    notes = []
    for name, neuron, levels, correction, timesteps, bar in BARS:
        config = ConvertConfig(neuron=neuron, levels=levels, correction=correction, timesteps=timesteps)
        network = convert_module(subject.model, images, config).network
        answers = snn_answers(network, subject.splits.test, timesteps, limit)
        drop, error = drop_in_points(ann, answers[-1])
        rows.append(Row.at_most(f"{name}, T={timesteps}: points below the ANN", drop, bar, command))
        curve = ", ".join(f"{100 * a:.2f}" for a in answers.double().mean(1).tolist())
        notes.append(
            f"{name}, correction {correction}, T={timesteps}: {drop:.2f} ± {error:.2f} points (standard error of the "
            f"paired difference, n = {len(ann)}); accuracy after t = 1 … {timesteps} steps: {curve} %."
        )
        click.echo(f"{name} T={timesteps}: {drop:.2f} below ({curve})", err=True)
    return rows, notes, network, answers[-1]


def exit_rows(
    subject: Subject, network: SpikingNetwork, full: Tensor, command: str, limit: int | None
) -> tuple[list[Row], list[str]]:
    """SEENN-I, its threshold found on the exit split, run with real exits on the test split.

    ``full``: whether the network is right on each test image at T=8 without early exit.
    """
    timesteps = 8
    run = collect_run(network, subject.splits.exit, timesteps, limit=limit)
    found = find_exit(run, ConfidenceExit(accumulation="mean"), max_accuracy_drop=0.005)
    test = subject.splits.test
    answers = with_exits(network, test, found.policy, timesteps, limit)
    right = answers.labels == test.labels[: len(answers)]
    drop, error = drop_in_points(full, right)
    steps = answers.exit_timestep.double()
    histogram = torch.bincount(answers.exit_timestep, minlength=timesteps + 1)[1:].tolist()
    note = (
        f"SEENN-I: threshold {found.policy.threshold:.4f} on the mean logits, found on {found.samples} exit images "
        f"({100 * found.accuracy:.2f} % at {found.mean_timesteps:.2f} steps there; full T "
        f"{100 * found.full_accuracy:.2f} %). Test: {100 * float(right.double().mean()):.2f} % at "
        f"{float(steps.mean()):.3f} ± {float(steps.std()):.2f} steps (standard deviation over images), {drop:.2f} ± "
        f"{error:.2f} points below full T; exits at t = 1 … 8: {histogram}."
    )
    return [
        Row.at_most("SEENN-I at --max-accuracy-drop 0.005, T=8: mean timesteps", float(steps.mean()), 3.5, command),
        Row.at_most("SEENN-I at --max-accuracy-drop 0.005, T=8: points below full T", drop, 0.8, command),
    ], [note]


@click.command()
@subject_options
@click.option("--limit", type=int, help="The first so many images of each split (for a quick look).")
@click.option("--out", default=str(RESULTS / "conversion"), show_default=True, help="Stem of the result files.")
def main(
    ckpt: str, model: str, model_kwargs: tuple[str, ...], data: str, data_dir: str | None, limit: int | None, out: str
) -> None:
    """Measure conversion on the full test split."""
    subject = load_subject(ckpt, model, model_kwargs, data, data_dir)
    kwargs = [part for item in model_kwargs for part in ("--model-kwargs", f"'{item}'")]
    command = " ".join(["python benchmarks/conversion.py --ckpt", Path(ckpt).name, *kwargs])
    rows, notes, network, full = accuracy_rows(subject, command, limit)
    exits, note = exit_rows(subject, network, full, command, limit)
    rows, notes = [*rows, *exits], [*notes, *note]
    samples = len(subject.splits.test) if limit is None else limit
    title = f"Conversion of {Path(ckpt).stem} without fine-tuning, {data}, {samples} test images"
    conclude(out, title, rows, notes)


if __name__ == "__main__":
    main()
