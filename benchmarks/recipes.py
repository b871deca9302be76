"""Which recipe is the default: accuracy of each at T = 8 on held-out images of the exit split, never on test.

python benchmarks/recipes.py --ckpt ann.pth
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS, ann_answers, drop_in_points, load_subject, snn_answers, subject_options

from converter import CORRECTIONS, RECIPES, ConvertConfig, convert_module

NEURONS = {
    "binary": {"neuron": "if"},
    "burst 4": {"neuron": "burst", "levels": 4},
    "signed": {"neuron": "signed", "levels": 1},
    "signed 4": {"neuron": "signed", "levels": 4},
}
TIMESTEPS = 8


@click.command()
@subject_options
@click.option("--neuron", "chosen", multiple=True, type=click.Choice(list(NEURONS)), help="Only these; all by default.")
@click.option("--samples", default=2000, show_default=True, help="Images of the exit split.")
@click.option("--out", default=str(RESULTS / "recipes"), show_default=True, help="Stem of the result files.")
def main(
    ckpt: str,
    model: str,
    model_kwargs: tuple[str, ...],
    data: str,
    data_dir: str | None,
    chosen: tuple[str, ...],
    samples: int,
    out: str,
) -> None:
    """Compare recipes, corrections and neurons at T = 8."""
    subject = load_subject(ckpt, model, model_kwargs, data, data_dir)
    images = subject.splits.calibration.images(limit=512)
    ann = ann_answers(subject.model, subject.splits.exit, samples)
    kwargs = "".join(f" --model-kwargs '{item}'" for item in model_kwargs)
    kwargs += "".join(f" --neuron '{name}'" for name in chosen)
    command = f"python benchmarks/recipes.py --ckpt {Path(ckpt).name}{kwargs} --samples {samples}"
    rows = []
    for neuron_name, neuron in NEURONS.items():
        if chosen and neuron_name not in chosen:
            continue
        for recipe_name in (name for name in RECIPES.names() if not RECIPES.get(name).learned):
            for correction in CORRECTIONS.names():
                if CORRECTIONS.get(correction).neuron not in (None, neuron["neuron"]):
                    continue
                config = ConvertConfig(
                    recipe=RECIPES.get(recipe_name)(), **neuron, correction=correction, timesteps=TIMESTEPS
                )
                network = convert_module(subject.model, images, config).network
                answers = snn_answers(network, subject.splits.exit, TIMESTEPS, samples)
                drop, error = drop_in_points(ann, answers[-1])
                name = f"{neuron_name}, {recipe_name}, correction {correction}: points below the ANN (± {error:.2f})"
                rows.append(Row(name, drop, None, True, command))
                click.echo(f"{name}: {drop:.2f}", err=True)
    best = min(rows, key=lambda row: row.value)
    notes = [f"Best: {best.name}, {best.value:.2f}. ANN: {100 * float(ann.double().mean()):.2f} % of {samples} images."]
    title = f"Recipes at T={TIMESTEPS}, {Path(ckpt).stem}, {data}, {samples} images of the exit split"
    for path in write_results(out, title, rows, notes=notes):
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
