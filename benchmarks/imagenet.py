"""ImageNet: networks of torchvision and timm as spiking networks, beside published figures.

    python benchmarks/imagenet.py --data-dir IMAGENET --model torchvision:resnet34 -T 2 -T 4 -T 8

``IMAGENET`` has the folder ``val`` with a folder a class, as the usual scripts leave it. All pictures are from there,
since the networks have seen ``train``: a tenth for calibration, a fifth each for the exit policy and for the figures,
10,000 pictures. Weights are the library's, or a file's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude

from converter import convert
from converter.load import ModelSpec, load_model
from seenn.analysis.report.text import markdown_table
from seenn.data import load_data

COMMAND = "python benchmarks/imagenet.py --data-dir IMAGENET"
#: Method, network, whether weights are trained for it, timesteps → top-1 in per cent, the ANN's, extra passes, source.
PUBLISHED = (
    ("99.9th percentile", "ResNet-18", "no", "12.46 (32)", "69.76", "–", "Rueckauer et al. 2017; torchvision weights"),
    ("LTB", "ResNet-18", "no", "65.47 (32)", "69.76", "readout from step 27", "arXiv:2409.03368"),
    ("QCFS", "ResNet-34", "yes", "69.37 (32)", "74.32", "–", "arXiv:2303.04347"),
    ("SRP", "ResNet-34", "yes", "57.8 (1), 64.3 (2), 66.7 (4), 67.6 (8)", "74.32", "8 steps", "Hao et al., AAAI 2023"),
    ("COS", "ResNet-34", "yes", "69.1 (1), 72.7 (2), 73.8 (4), 74.2 (8)", "74.22", "8 steps", "Hao et al., ICLR 2023"),
    (
        "DCGS, 8 levels",
        "ResNet-34",
        "no",
        "60.4 (2), 74.0 (4), 76.1 (8)",
        "76.4",
        "a pass of biases",
        "arXiv:2503.00301",
    ),
    ("H-MT, 8 bits", "ResNet-34", "no", "76.28 (2), 76.17 (4)", "76.42", "–", "AAAI 2026"),
    ("H-MT, 4 bits", "ResNet-34", "no", "73.25 (4), 75.02 (8)", "76.42", "–", "AAAI 2026"),
    ("STA", "ViT-B/16", "no", "80.70 (8)", "81.07", "q, k, v analog", "torchvision weights"),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """How every network is converted and evaluated."""

    levels: int
    engine: str
    batch_size: int
    limit: int | None


def rows_of(model: str, ckpt: str | None, data_dir: str, timesteps: int, run: Run) -> list[Row]:
    """One conversion: top-1 of ANN and SNN, at T and with exits, in per cent, and what they cost."""
    loaded = load_model(ModelSpec(name=model, pretrained=ckpt is None), ckpt)
    splits = load_data(f"imagefolder:{Path(data_dir) / 'val'}", preprocessing=loaded.preprocessing)
    snn = convert(loaded.module, splits, timesteps=timesteps, levels=run.levels, encoder_levels=run.levels)
    snn = snn.calibrate_exit(splits.exit, engine=run.engine, max_accuracy_drop=0.005, batch_size=run.batch_size)
    found = snn.evaluate(splits.test, engine=run.engine, limit=run.limit, batch_size=run.batch_size)
    assert found.ann_accuracy is not None
    name = f"{model}, T = {timesteps}, {run.levels} levels"
    figures = {
        "top-1 of the ANN, %": 100 * found.ann_accuracy,
        "top-1 at T, %": 100 * found.full_accuracy,
        "top-1 with exits, %": 100 * found.accuracy,
        "mean timesteps with exits": found.mean_timesteps,
        "share of MACs fed by spikes": found.spiking_mac_share,
        "energy ÷ the ANN's": found.energy_pj / found.ann_energy_pj,
        "energy in integers ÷ that of the ANN at as many levels": found.integer_energy_pj / found.quantised.energy_pj,
        "images": found.samples,
    }
    return [Row(f"{name}: {what}", float(value), None, True, COMMAND) for what, value in figures.items()]


@click.command()
@click.option("--data-dir", required=True, type=click.Path(exists=True, file_okay=False), help="With the folder val.")
@click.option("--model", "models", multiple=True, default=("torchvision:resnet34",), show_default=True)
@click.option("--ckpt", "files", multiple=True, type=click.Path(exists=True, dir_okay=False), help="One a --model.")
@click.option("-T", "--timesteps", multiple=True, type=click.IntRange(min=1), default=(2, 4, 8), show_default=True)
@click.option("--levels", default=15, show_default=True, help="Most spikes of a neuron in a step, of either sign.")
@click.option("--engine", default="auto", show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Test images; all when not given.")
@click.option("--out", default=str(RESULTS / "imagenet"), show_default=True, help="Stem of the result files.")
def main(
    data_dir: str,
    models: tuple[str, ...],
    files: tuple[str, ...],
    timesteps: tuple[int, ...],
    levels: int,
    engine: str,
    batch_size: int,
    limit: int | None,
    out: str,
) -> None:
    """Convert each network at each T, evaluate it, write the table beside the published one."""
    if files and len(files) != len(models):
        raise click.UsageError(f"{len(files)} --ckpt for {len(models)} --model: give one for each, or none")
    run = Run(levels=levels, engine=engine, batch_size=batch_size, limit=limit)
    rows = [
        row
        for model, file in zip(models, files or [None] * len(models), strict=True)
        for steps in timesteps
        for row in rows_of(model, file, data_dir, steps, run)
    ]
    head = ("method", "network", "trained for it", "top-1 in % (timesteps)", "ANN", "not in T", "source")
    notes = [
        "## Published figures",
        markdown_table(head, PUBLISHED),
        "Steps of several levels cost more than binary ones: compare energy, not T alone.",
    ]
    conclude(out, "ImageNet", rows, notes)


if __name__ == "__main__":
    main()
