"""The direct ResNet-19 on Fashion-MNIST: accuracy at T=4, and what early exit keeps of it.

One command; it continues where it was stopped::

    python benchmarks/direct.py --work DIR
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import torch
from bars import Row
from common import RESULTS, SpikeCount, conclude, with_exits

import seenn
from seenn.analysis.collect import collect_run
from seenn.data.provenance import load_recorded_data
from seenn.exits import find_exit
from seenn.metrics import accuracy_per_timestep

TARGET_DROP = 0.001  # that calibration may lose on the exit split


def train(work: Path, *, width: float, epochs: float, seed: int, amp: bool, neuron: str) -> Path:
    """Trains with ``seenn train-direct``, or continues; returns the network's file."""
    snn, run = work / "snn.safetensors", work / "run"
    if not snn.exists():
        command = [sys.executable, "-c", "from cli.main import main; main()", "train-direct"]
        command += ["--data", "fashion-mnist", "--model", "spiking_resnet19", "--width", str(width)]
        command += ["--epochs", str(epochs), "--timesteps", "4", "--loss", "cumulative", "--seed", str(seed)]
        command += ["--neuron", neuron, "--batch-size", "32", "--lr", "0.15", "--warmup", "0.1"]
        command += ["--no-flip", "--shift", "0"]  # eight epochs are too few for it to help
        command += ["--run-dir", str(run), "--resume", "--output", str(snn), *(["--amp"] if amp else [])]
        subprocess.run(command, check=True)
    return snn


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder of the run and the network.")
@click.option("--width", default=0.125, show_default=True)
@click.option("--epochs", default=8.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--neuron", default="lif", show_default=True, help="As for seenn train-direct.")
@click.option("--amp", is_flag=True, help="Train in bfloat16 autocast.")
@click.option("--out", default=str(RESULTS / "direct"), show_default=True, help="Stem of the result files.")
def main(work: str, width: float, epochs: float, seed: int, neuron: str, amp: bool, out: str) -> None:
    """Train, calibrate the exit on the exit split, and run the whole test split with samples leaving."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    snn = seenn.load(train(folder, width=width, epochs=epochs, seed=seed, amp=amp, neuron=neuron))
    splits = load_recorded_data(snn.manifest, snn.preprocessing)
    network, timesteps = snn.network, snn.timesteps
    held = collect_run(network, splits.exit, timesteps, batch_size=128)
    found = find_exit(held, seenn.ConfidenceExit(), max_accuracy_drop=TARGET_DROP)
    run = collect_run(network, splits.test, timesteps, batch_size=128)
    logits_sum, labels = run.logits_sum, run.labels
    accuracy = accuracy_per_timestep(logits_sum, labels).tolist()
    fired = SpikeCount()
    early = with_exits(network, splits.test, found.policy, timesteps, observers=[fired])
    right, steps = (early.labels == labels).double(), early.exit_timestep.double()
    drop = 100 * (accuracy[-1] - float(right.mean()))
    command = f"python benchmarks/direct.py --work DIR --width {width} --epochs {epochs:g} --seed {seed}"
    command += f" --neuron {neuron}{' --amp' * amp}"
    rows = [
        Row.at_least("accuracy at T=4, %", 100 * accuracy[-1], 92.0, command),
        Row.at_most("SEENN-I: points below T=4", drop, 0.3, command),
        Row.at_most("SEENN-I: mean timesteps", float(steps.mean()), 1.4, command),
    ]
    difference = (logits_sum[-1].argmax(-1) == labels).double() - right
    notes = [
        f"spiking_resnet19 of width {width}, {neuron} neurons, on Fashion-MNIST, {len(labels):,} test images, "
        f"{epochs:g} epochs, seed {seed}. Accuracy after t = 1 to {timesteps}: "
        f"{', '.join(f'{100 * a:.2f}' for a in accuracy)} %.",
        f"Exit threshold {found.policy.threshold:.4f}, from the exit split of {len(held.labels):,} images for a drop "
        f"of at most {100 * TARGET_DROP:g} points there. Standard error of the paired difference "
        f"{100 * float(difference.std()) / len(labels) ** 0.5:.2f} points; standard deviation of the steps over images "
        f"{float(steps.std()):.2f}; {fired.total / len(labels):,.0f} spikes an image up to its exit.",
        f"Trained with: `{json.dumps(snn.manifest['direct'], sort_keys=True)}`",
    ]
    conclude(out, "Direct training of ResNet-19", rows, notes)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
