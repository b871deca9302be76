"""What int8 costs: accuracy on the same images, and the error of the scores layer by layer.

    python benchmarks/int8_layers.py snn.safetensors

SNN is a network that `seenn convert` and `seenn calibrate-exit` made. Nothing here is timed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

import seenn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude, drop_in_points

from seenn.analysis.bench.layers import layer_losses
from seenn.data.provenance import load_recorded_data
from seenn.exits import FixedExit
from seenn.runtime import Session


@click.command()
@click.argument("snn", type=click.Path(exists=True, dir_okay=False))
@click.option("--data-dir", help="Folder with the data set's files.")
@click.option("--limit", default=2000, show_default=True, help="Test images for the accuracy.")
@click.option("--layer-limit", default=64, show_default=True, help="Test images for each layer.")
@click.option("--title", help="What the network is.  [default: the file's name]")
@click.option("--out", default=str(RESULTS / "int8_layers"), show_default=True, help="Stem of the result files.")
def main(snn: str, data_dir: str | None, limit: int, layer_limit: int, title: str | None, out: str) -> None:
    """Measure what int8 costs."""
    network = seenn.load(snn)
    splits = load_recorded_data(network.manifest, network.preprocessing, data_dir=data_dir)
    steps, labels = network.timesteps, splits.test.labels[:limit]
    command = f"python benchmarks/int8_layers.py {Path(snn).name} --limit {limit} --layer-limit {layer_limit}"
    engines = {name: network.make_engine(name) for name in ("float32", "int8")}
    rows, notes = [], []
    for when, policy in ((f"at T={steps}", FixedExit()), ("with exits", network.policy or FixedExit())):
        right = {}
        for name, engine in engines.items():
            found = Session(engine, policy, steps, 64).run(splits.test.batches(64, limit=limit))
            right[name] = found.labels == labels
            notes.append(
                f"{name} {when}: {100 * float(right[name].double().mean()):.2f} %, mean timesteps "
                f"{float(found.exit_timestep.double().mean()):.3f}."
            )
            click.echo(notes[-1], err=True)
        lost, error = drop_in_points(right["float32"], right["int8"])
        rows.append(Row.at_most(f"accuracy points lost by int8 {when}, {len(labels)} images", lost, 0.2, command))
        notes.append(f"{when}: {lost:.2f} ± {error:.2f} points (standard error of the paired difference).")
    losses = layer_losses(
        network,
        splits.test.images(layer_limit),
        labels[:layer_limit],
        steps,
        say=lambda text: click.echo(text, err=True),
    )
    for loss in losses:
        name = f"error of the scores, int8 in {loss.layer}, %"
        rows.append(Row(name, 100 * loss.score_error, None, True, command))
    notes.append(
        f"Errors of the scores are relative to the float32 engine, after {steps} steps of {len(labels[:layer_limit])} "
        "images. `(none)` has thresholds and membranes on their grids and all weights finer than int8; a threshold "
        "that is crossed a step earlier or later is most of it."
    )
    notes.append(
        "| int8 in | bits | error of the weights, % | points lost |\n| --- | --: | --: | --: |\n"
        + "\n".join(
            f"| `{loss.layer}` | {loss.bits or ''} | "
            f"{'' if loss.weight_error is None else f'{100 * loss.weight_error:.3f}'} | {loss.points_lost:+.2f} |"
            for loss in losses
        )
    )
    conclude(out, f"What int8 costs: {title or Path(snn).stem}", rows, notes)


if __name__ == "__main__":
    main()
