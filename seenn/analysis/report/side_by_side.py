"""Several reports side by side: their main figures in one table, their curves in one plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seenn.analysis.report.chart import Chart, Panel, Series
from seenn.analysis.report.figures import COLOURS, PathLike
from seenn.analysis.report.page import Block, Code, Lines, Page, Plot, Table
from seenn.analysis.report.text import energy, percent
from seenn.errors import DataError

COLUMNS = ("run", "data", "accuracy", "at T", "ANN", "timesteps", "energy", "ANN's energy", "exit policy")
_LARGEST = 64 << 20


def read_runs(folders: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The evaluations in these folders by their names, as far as they differ.

    Raises:
        DataError: a folder without a ``report.json`` of ``seenn evaluate``.
    """
    return {_name(folder, folders): _read(Path(folder)) for folder in folders}


def rows(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The cells under ``COLUMNS``, one run a row."""
    return [
        (
            name,
            f"{run['data']} ({run['split']}, {run['samples']:,})",
            percent(run["accuracy"]),
            percent(run["full_accuracy"]),
            "–" if run["ann_accuracy"] is None else percent(run["ann_accuracy"]),
            f"{run['mean_timesteps']:.2f} of {run['initial_steps'] + run['timesteps']}",
            energy(run["energy_pj"]),
            "–" if run["ann_accuracy"] is None else energy(run["ann_energy_pj"]),
            str(run["policy"]["policy"]),
        )
        for name, run in runs.items()
    ]


def write_side_by_side(runs: Mapping[str, Mapping[str, Any]], folder: PathLike) -> Path:
    """Writes ``runs.md``, ``runs.json``, ``report.html`` and a plot into ``folder``; returns the page's path.

    Raises:
        OutputError: the folder cannot be written.
    """
    sets = {(run["data"], run["split"], run["samples"]) for run in runs.values()}
    said = ["Accuracy and timesteps are those at each image's exit; «at T»: every image ran all steps."]
    if len(sets) > 1:
        said.append("The runs are on DIFFERENT samples: their accuracies cannot be compared with each other.")
    table = Table(COLUMNS, [(Code(row[0]), *row[1:]) for row in rows(runs)])
    commands = Table(("run", "command"), [(Code(name), Code(str(run["command"]))) for name, run in runs.items()])
    blocks: list[Block] = [Lines(said), table, Plot(_chart(runs)), commands]
    page = Page(name="runs", title=f"{len(runs)} runs side by side", network="", blocks=blocks)
    return page.write(folder, {"runs": dict(runs)})


def _chart(runs: Mapping[str, Mapping[str, Any]]) -> Chart:
    series = []
    for number, (name, run) in enumerate(runs.items()):
        color = COLOURS[number % len(COLOURS)]
        if (front := run["exit_curve_front"]) is not None:
            accuracy = [100 * value for value in front["accuracy"]]
            series.append(Series(x=front["mean_timesteps"], y=accuracy, color=color, faint=True))
        at = (run["mean_timesteps"],), (100 * run["accuracy"],)
        series.append(Series(name=name, style="marks", x=at[0], y=at[1], color=color, marker="o"))
    return Chart(
        name="runs",
        title="Accuracy against mean timesteps",
        subtitle="marks: the chosen exits; lines: the best that their thresholds reach",
        ylabel="accuracy (%)",
        panels=(Panel(xlabel="mean timesteps per image", series=series),),
    )


def _name(folder: str, folders: Sequence[str]) -> str:
    name = Path(folder).resolve().name
    return name if [Path(other).resolve().name for other in folders].count(name) == 1 else folder


def _read(folder: Path) -> Mapping[str, Any]:
    path = folder / "report.json" if folder.is_dir() else folder
    fix = "name folders that `seenn evaluate --report` wrote"
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, and no report is that large: {fix}")
        run: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file, so no report: {fix}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a report ({type(error).__name__}): {fix}") from error
    numbers = ("accuracy", "full_accuracy", "mean_timesteps", "energy_pj", "ann_energy_pj")
    texts = ("data", "split", "command")
    good = (
        isinstance(run, dict)
        and all(isinstance(run.get(name), int | float) for name in numbers)
        and all(isinstance(run.get(name), str) for name in texts)
        and all(isinstance(run.get(name), int) for name in ("samples", "timesteps", "initial_steps"))
        and isinstance(run.get("ann_accuracy"), int | float | None)
        and isinstance(run.get("policy"), dict)
        and "policy" in run["policy"]
        and _is_front(run.get("exit_curve_front", 0))
    )
    if not good:
        raise DataError(f"{path} is no report of an evaluation: {fix}")
    return dict(run)


def _is_front(front: object) -> bool:
    """Whether it is the Pareto front of a curve, or none."""
    if front is None:
        return True
    columns = [front.get(name) for name in ("mean_timesteps", "accuracy")] if isinstance(front, dict) else [0]
    numbers = all(isinstance(column, list) and all(isinstance(v, int | float) for v in column) for column in columns)
    return numbers and len(set(map(len, columns))) == 1  # type: ignore[arg-type]
