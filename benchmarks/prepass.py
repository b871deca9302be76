"""COS and SRP on a QCFS network, their initial steps counted: accuracy against the steps that are really run.

    python benchmarks/prepass.py --ckpt qcfs.safetensors --model resnet18

The weights come from ``seenn train-ann --activation qcfs``. Nothing is chosen here, so the test split is read directly.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS, ann_answers, drop_in_points, snn_answers, subject_options

from converter import CORRECTIONS, ConvertConfig, convert_module
from converter.load import ModelSpec, load_model, parse_model_kwargs
from seenn.data import load_data


@click.command()
@subject_options
@click.option("--initial-steps", default=8, show_default=True, help="Before the first that answers.")
@click.option("--timesteps", default=8, show_default=True, help="T, after it.")
@click.option("--limit", default=2000, show_default=True, help="The first so many test images.")
@click.option("--out", default=str(RESULTS / "prepass"), show_default=True, help="Stem of the result files.")
def main(
    ckpt: str,
    model: str,
    model_kwargs: tuple[str, ...],
    data: str,
    data_dir: str | None,
    initial_steps: int,
    timesteps: int,
    limit: int,
    out: str,
) -> None:
    """Compare a plain start with both that take initial steps."""
    loaded = load_model(ModelSpec(name=model, kwargs=parse_model_kwargs(model_kwargs)), ckpt)
    if loaded.spec.levels is None:
        raise click.UsageError(f"{ckpt} is not a QCFS network: train one with seenn train-ann --activation qcfs")
    splits = load_data(data, data_dir=data_dir, preprocessing=loaded.preprocessing)
    kwargs = "".join(f" --model-kwargs '{value}'" for value in model_kwargs)
    command = f"python benchmarks/prepass.py --ckpt {Path(ckpt).name} --model {model}{kwargs} --limit {limit}"
    levels = loaded.spec.levels
    configs = {"no initial steps": ConvertConfig.suited(qcfs_levels=levels)}
    configs |= {
        name: ConvertConfig.suited(qcfs_levels=levels, correction=name, initial_steps=initial_steps)
        for name in CORRECTIONS.names()
        if CORRECTIONS.get(name).initial_steps
    }
    ann = ann_answers(loaded.module, splits.test, limit)
    rows, notes = [Row("QCFS network (%)", 100 * float(ann.double().mean()), None, True, command)], []
    for name, config in configs.items():
        click.echo(f"running {name}", err=True)
        network = convert_module(loaded.module, splits.calibration.images(limit=512), config).network
        answers = snn_answers(network, splits.test, timesteps, limit)
        shown = [t for t in (1, 2, 4, 8, 16, 32) if t <= timesteps]
        rows += [
            Row(
                f"{name}: % after {network.initial_steps + t} steps (t = {t})",
                100 * float(answers[t - 1].double().mean()),
                None,
                True,
                command,
            )
            for t in shown
        ]
        drop, error = drop_in_points(ann, answers[-1])
        notes.append(
            f"{name}, after {network.initial_steps + timesteps} steps: {drop:.2f} ± {error:.2f} points below the ANN "
            "(the QCFS network; standard error of the paired difference)."
        )
    notes.append(f"{len(ann):,} test images, L = {loaded.spec.levels}, binary neurons, T = {timesteps}.")
    for path in write_results(out, f"COS and SRP, {Path(ckpt).stem} on {data}", rows, notes=notes):
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
