"""SEENN-II for several costs of a wrong answer: accuracy against mean timesteps, as PNG and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seenn.analysis.report.chart import Chart, Panel, Series, fixed_steps
from seenn.analysis.report.page import write_json
from seenn.files import atomic_folder, make_folder


def write_beta_sweep(
    records: Mapping[float, Mapping[str, Any]],
    accuracy_per_timestep: Sequence[float],
    subtitle: str,
    folder: Path,
    initial_steps: int = 0,
) -> list[dict[str, float]]:
    """Writes ``beta-sweep.png`` and ``beta-sweep.json`` into ``folder``, both or none; returns the points in the JSON.

    Args:
        records: what training recorded of each policy, by beta.
        accuracy_per_timestep: if every image ran t = 1 … T steps.
        subtitle: which network and data.
        initial_steps: steps of every image before the first that answers; the records include them.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(folder.parent)
    points = [
        {
            "beta": beta,
            "accuracy": found["accuracy"],
            "mean_timesteps": found["mean_timesteps"],
            "reward": found["training"]["best_reward"],
        }
        for beta, found in sorted(records.items())
    ]
    steps = range(initial_steps + 1, initial_steps + len(accuracy_per_timestep) + 1)
    policies = Series(
        name="SEENN-II (policy network not counted), by beta",
        style="marks",
        x=[point["mean_timesteps"] for point in points],
        y=[100 * point["accuracy"] for point in points],
        texts=[f"{point['beta']:g}" for point in points],
        marker="o",
    )
    panel = Panel(xlabel="mean timesteps", series=(policies, fixed_steps(steps, accuracy_per_timestep)))
    title = "SEENN-II by the cost of a wrong answer"
    chart = Chart(name="beta-sweep", title=title, subtitle=subtitle, ylabel="accuracy (%)", panels=(panel,))
    with atomic_folder(folder) as inside:
        chart.draw(inside / chart.file)
        write_json(inside / "beta-sweep.json", {"points": points, "accuracy_per_timestep": list(accuracy_per_timestep)})
    return points
