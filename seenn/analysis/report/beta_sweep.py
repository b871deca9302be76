"""SEENN-II for several costs of a wrong answer: accuracy against mean timesteps, as PNG and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seenn.analysis.report.base import write_json
from seenn.analysis.report.figures import BLUE, INK, plot, plot_fixed
from seenn.files import make_folder


def write_beta_sweep(
    records: Mapping[float, Mapping[str, Any]],
    accuracy_per_timestep: Sequence[float],
    subtitle: str,
    folder: Path,
    initial_steps: int = 0,
) -> list[dict[str, float]]:
    """Writes ``beta-sweep.png`` and ``beta-sweep.json`` into ``folder``; returns the points in the JSON.

    Args:
        records: what training recorded of each policy, by beta.
        accuracy_per_timestep: if every image ran t = 1 … T steps.
        subtitle: which network and data.
        initial_steps: steps of every image before the first that answers; the records include them.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(folder)
    points = [
        {
            "beta": beta,
            "accuracy": found["accuracy"],
            "mean_timesteps": found["mean_timesteps"],
            "reward": found["training"]["best_reward"],
        }
        for beta, found in sorted(records.items())
    ]
    title, path = "SEENN-II by the cost of a wrong answer", folder / "beta-sweep.png"
    with plot(path, title, subtitle, "mean timesteps", "accuracy (%)") as axes:
        for number, point in enumerate(points):
            at = (point["mean_timesteps"], 100 * point["accuracy"])
            label = None if number else "SEENN-II (policy network not counted), by beta"
            axes.plot(*at, color=BLUE, marker="o", linestyle="none", label=label)
            beta = f"{point['beta']:g}"
            axes.annotate(beta, at, xytext=(5, 4), textcoords="offset points", fontsize=8, color=INK)
        steps = range(initial_steps + 1, initial_steps + len(accuracy_per_timestep) + 1)
        plot_fixed(axes, steps, accuracy_per_timestep)
    write_json(folder / "beta-sweep.json", {"points": points, "accuracy_per_timestep": list(accuracy_per_timestep)})
    return points
