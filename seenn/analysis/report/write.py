"""The report of an evaluation as a folder: JSON for programs, Markdown and PNGs for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.gallery import plot_gallery
from seenn.analysis.report.markdown import markdown_cell, markdown_code, markdown_table
from seenn.analysis.report.plots import plot_accuracy, plot_exits, plot_tradeoff
from seenn.analysis.report.summary import COLUMNS, summary_rows, verdict
from seenn.analysis.report.text import percent, steps
from seenn.files import write_text


def write_report(evaluation: Evaluation, images: Mapping[int, Tensor], folder: str | os.PathLike[str]) -> Path:
    """Writes ``report.json``, ``report.md`` and the plots into ``folder``, each atomically.

    The folder is made where it is missing; files of an earlier report are replaced, and plots that this
    evaluation does not have are removed. ``report.json`` comes last: where it is new, all of it is.

    Args:
        images: raw pixels of the easiest and hardest samples by index, uint8 ``[C, H, W]``, C = 1 or 3.

    Returns:
        The path of ``report.md``.

    Raises:
        ValueError: an image is missing or of another kind.
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if _has_images(evaluation):  # first: the only part that can refuse its input
        plot_gallery(evaluation, images, target / "images.png")
    if evaluation.curve is not None:
        plot_tradeoff(evaluation, target / "tradeoff.png")
    plot_accuracy(evaluation, target / "accuracy.png")
    plot_exits(evaluation, target / "exits.png")
    plots = _plots(evaluation)
    for stale in {"tradeoff.png", "images.png"} - set(plots):
        (target / stale).unlink(missing_ok=True)
    write_text(target / "report.md", _markdown(evaluation))
    write_text(target / "report.json", json.dumps(evaluation.to_json(), indent=2, allow_nan=False) + "\n")
    return target / "report.md"


def _markdown(e: Evaluation) -> str:
    by_timestep = zip(e.accuracy_per_timestep, e.exit.histogram, strict=True)
    per_timestep = [(str(t), percent(a), f"{n:,}") for t, (a, n) in enumerate(by_timestep, 1)]
    sites = [(markdown_code(site), f"{rate:.4f}") for site, rate in e.spike_rate_per_site.items()]
    origin = {
        "network": e.network,
        "made from": e.source,
        "data": f"{e.data}, {e.split} split",
        "seed": str(e.seed),
    }
    origin |= {"exit policy": json.dumps(dict(e.policy)), "command": e.command, **e.versions}
    sections = [
        f"# {markdown_cell(e.network)} on {markdown_cell(e.data)}",
        markdown_table(COLUMNS, summary_rows(e)),
        "\n".join(f"- {sentence}" for sentence in verdict(e)),
        *(f"![{title}]({name})" for name, title in _plots(e).items()),
        "## Per timestep",
        f"Half of the images had exited by t = {e.exit.p50}, 95 % by t = {e.exit.p95}. Average exit time "
        f"(AET): {steps(e.aet)}; oracle, which stops at the first right answer: {steps(e.oracle_aet)}.",
        markdown_table(("t", "accuracy if every image ran t steps", "images that exited at t"), per_timestep),
        "## Spike rate per site",
        "Spikes per neuron and timestep.",
        markdown_table(("site", "rate"), sites),
        *_analog_nodes(e),
        "## How to repeat it",
        markdown_table(("what", "value"), [(key, markdown_code(value)) for key, value in origin.items()]),
    ]
    return "\n\n".join(sections) + "\n"


def _analog_nodes(e: Evaluation) -> list[str]:
    """The section on a hybrid's analog nodes; nothing where there is none."""
    rows = [(markdown_code(name), op) for name, op in e.analog_nodes.items()]
    if not rows:
        return []
    return ["## Analog nodes", "What acts on running means instead of spikes.", markdown_table(("node", "op"), rows)]


def _plots(e: Evaluation) -> dict[str, str]:
    """File name to title of the plots that this evaluation has, in reading order."""
    plots = {"accuracy.png": "Accuracy against timesteps", "exits.png": "When images exit"}
    if e.curve is not None:
        plots["tradeoff.png"] = "Accuracy against mean timesteps"
    if _has_images(e):
        plots["images.png"] = "Easiest and hardest images"
    return plots


def _has_images(e: Evaluation) -> bool:
    return bool(e.easiest or e.hardest)
