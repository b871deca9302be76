"""SEENN-II for several costs of a wrong answer: accuracy against mean timesteps, as PNG and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seenn.analysis.report.figures import BLUE, GREY, INK, add_legend, new_axes, save_png
from seenn.files import write_text


@dataclass(frozen=True, kw_only=True)
class BetaPoint:
    """What the policy trained with one beta does."""

    beta: float
    accuracy: float  # in [0, 1]
    mean_timesteps: float
    reward: float


def write_beta_sweep(
    points: Sequence[BetaPoint],
    accuracy_per_timestep: Sequence[float],
    subtitle: str,
    folder: Path,
    initial_steps: int = 0,
) -> list[dict[str, Any]]:
    """Writes ``beta-sweep.png`` and ``beta-sweep.json`` into ``folder``; returns what the JSON holds.

    Args:
        points: by rising beta.
        accuracy_per_timestep: if every image ran t = 1 … T steps.
        subtitle: which network and data.
        initial_steps: steps of every image before the first that answers; the points include them.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = [asdict(point) for point in points]
    figure, axes = new_axes("SEENN-II by the cost of a wrong answer", subtitle, "mean timesteps", "accuracy (%)")
    axes.plot(
        [point.mean_timesteps for point in points],
        [100 * point.accuracy for point in points],
        color=BLUE,
        marker="o",
        linestyle="none",
        label="SEENN-II (policy network not counted), by beta",
    )
    for point in points:
        axes.annotate(
            f"{point.beta:g}",
            (point.mean_timesteps, 100 * point.accuracy),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    axes.plot(
        [initial_steps + t for t in range(1, len(accuracy_per_timestep) + 1)],
        [100 * accuracy for accuracy in accuracy_per_timestep],
        color=GREY,
        marker="s",
        markersize=5,
        markerfacecolor="white",
        linestyle="--",
        label="the same t for every image",
    )
    add_legend(figure)
    save_png(figure, folder / "beta-sweep.png")
    record = {"points": found, "accuracy_per_timestep": list(accuracy_per_timestep)}
    write_text(folder / "beta-sweep.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    return found
