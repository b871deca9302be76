"""What ``seenn inspect`` costs: user CPU after imports, on models with random weights."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import click
from bars import Row, write_results

from converter.inspect import inspect_model
from converter.load import ModelSpec, build_model

COMMAND = "python benchmarks/inspect_cost.py"
SHAPE = (3, 224, 224)
REPEATS = 3


def measure(name: str) -> tuple[float, int]:
    """Median user CPU seconds of an inspection, and how many nodes it lists."""
    model = build_model(ModelSpec(name=name), SHAPE).module
    inspect_model(build_model(ModelSpec(name="resnet18"), SHAPE).module, SHAPE)  # what torch and timm import late
    seconds, nodes = [], 0
    for _ in range(REPEATS):
        before = os.times().user
        nodes = len(inspect_model(model, SHAPE).nodes)
        seconds.append(os.times().user - before)
    return statistics.median(seconds), nodes


@click.command()
@click.option("--out", default=str(Path(__file__).parent / "results" / "inspect_cost"), help="Path without suffix.")
def main(out: str) -> None:
    """Measures resnet50, which has a bar, and a hybrid and a transformer for comparison."""
    rows = []
    for name in ("resnet50", "efficientnet_b0", "vit_tiny_patch16_224"):
        seconds, nodes = measure(name)
        title = f"inspect {name}: user CPU (s), {nodes} nodes"
        rows.append(
            Row.at_most(title, seconds, 5.0, COMMAND)
            if name == "resnet50"
            else Row(title, seconds, None, True, COMMAND)
        )
        click.echo(f"{title}: {seconds:.2f}")
    notes = [f"Medians of {REPEATS} runs, 224×224, random weights, imports not counted."]
    write_results(out, "What an inspection costs", rows, notes=notes)


if __name__ == "__main__":
    main()
