"""The report of an evaluation as a folder: JSON for programs, Markdown and PNGs for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.figures import PathLike
from seenn.analysis.report.gallery import plot_gallery
from seenn.analysis.report.plots import plot_accuracy, plot_exits, plot_tradeoff
from seenn.analysis.report.summary import COLUMNS, summary_rows, verdict
from seenn.analysis.report.text import markdown_cell, markdown_code, markdown_table, percent, steps
from seenn.files import make_folder


def write_report(e: Evaluation, raw: Callable[[int], Tensor], folder: PathLike) -> Path:
    """Writes ``report.json``, ``report.md`` and the plots into ``folder``, each atomically.

    The folder is made where it is missing; files of an earlier report are replaced, and plots that this
    evaluation does not have are removed. ``report.json`` comes last: where it is new, all of it is.

    Args:
        raw: the pixels of a sample by its index, uint8 ``[C, H, W]``.

    Returns:
        The path of ``report.md``.

    Raises:
        DataError: an image cannot be read.
        OutputError: the folder cannot be written.
    """
    target = make_folder(folder)
    plots = {"accuracy.png": "Accuracy against timesteps", "exits.png": "When images exit"}
    if plot_gallery(e, raw, target / "images.png"):  # first: the only part that can fail for its input
        plots["images.png"] = "Easiest and hardest images"
    if e.curve is not None:
        plot_tradeoff(e, e.curve, target / "tradeoff.png")
        plots["tradeoff.png"] = "Accuracy against mean timesteps"
    plot_accuracy(e, target / "accuracy.png")
    plot_exits(e, target / "exits.png")
    for stale in {"tradeoff.png", "images.png"} - set(plots):
        (target / stale).unlink(missing_ok=True)
    by_timestep = zip(e.accuracy_per_timestep, e.exit.histogram, strict=True)
    origin = {
        "network": e.network,
        "made from": e.source,
        "data": f"{e.data}, {e.split} split",
        "seed": str(e.seed),
        "exit policy": json.dumps(dict(e.policy)),
        "command": e.command,
        **e.versions,
    }
    sections = [
        f"# {markdown_cell(e.network)} on {markdown_cell(e.data)}",
        markdown_table(COLUMNS, summary_rows(e)),
        "\n".join(f"- {sentence}" for sentence in verdict(e)),
        *(f"![{title}]({name})" for name, title in plots.items()),
        "## Per timestep",
        f"Half of the images had exited by t = {e.exit.p50}, 95 % by t = {e.exit.p95}. Average exit time "
        f"(AET): {steps(e.aet)}; oracle, which stops at the first right answer: {steps(e.oracle_aet)}.",
        markdown_table(
            ("t", "accuracy if every image ran t steps", "images that exited at t"),
            [(str(t), percent(a), f"{n:,}") for t, (a, n) in enumerate(by_timestep, 1)],
        ),
        "## Spike rate per site",
        "Spikes per neuron and timestep.",
        markdown_table(
            ("site", "rate"), [(markdown_code(site), f"{rate:.4f}") for site, rate in e.spike_rate_per_site.items()]
        ),
    ]
    if e.running_means:
        nodes = [(markdown_code(name), op) for name, op in e.running_means.items()]
        sections += ["## Running means", "What acts on the mean of all steps so far: neither affine nor spikes."]
        sections.append(markdown_table(("node", "op"), nodes))
    rows = [(key, markdown_code(value)) for key, value in origin.items()]
    return e.write(target, "report", [*sections, "## How to repeat it", markdown_table(("what", "value"), rows)])
