"""A run's metrics as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from seenn.analysis.report.figures import BLUE, VERMILLION, plot


def plot_curves(lines: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Loss of the steps (blue, left) and validation accuracy of the epochs (red, right) against the step."""
    steps = [line for line in lines if "epoch" not in line]
    epochs = [line for line in lines if "epoch" in line]
    with plot(path, "Training", f"{lines[-1]['step']:,} steps", "step", "loss") as axes:
        loss = [line["loss"] for line in steps]
        axes.plot([line["step"] for line in steps], loss, color=BLUE, alpha=0.35, linewidth=1)
        axes.plot(
            [line["step"] for line in epochs],
            [line["loss"] for line in epochs],
            color=BLUE,
            marker="o",
            markersize=4,
            label="loss, mean over the epoch (steps: thin)",
        )
        right = axes.twinx()
        right.set_ylabel("accuracy on the validation split (%)")
        right.spines[["top"]].set_visible(False)
        accuracy = [100 * line["accuracy"] for line in epochs]
        label = "validation accuracy"
        right.plot([line["step"] for line in epochs], accuracy, color=VERMILLION, marker="s", markersize=4, label=label)
