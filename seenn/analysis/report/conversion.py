"""The report of a conversion: what became of the ANN, and how far each site follows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seenn.analysis.report.chart import Chart, Panel, Series
from seenn.analysis.report.figures import INK, PathLike
from seenn.analysis.report.page import Block, Code, Heading, Lines, Page, Plot, Table, provenance
from seenn.analysis.report.text import percent

if TYPE_CHECKING:
    from seenn.snn import SNN

_COLUMNS = (
    "Relative error: how far the mean output after T steps is from the ANN's activation, relative to it, on held-out "
    "images; calibration error: on those of the calibration.",
    "Clipped unseen, clipped energy: the shares of the values, and of their squares, that a range found on one half of "
    "the calibration images cuts off on the other; clipped excess: how much more than on its own half.",
)


def write_conversion(
    snn: SNN, figures: dict[str, Any], summary: Sequence[str], name: str, command: str, folder: PathLike
) -> Path:
    """Writes ``conversion.md``, ``conversion.json``, ``report.html`` and a plot into ``folder``, all or none.

    Args:
        snn: from ``converter.convert``.
        figures: what the JSON says.
        summary: what became of the model, in sentences.
        name: of the network, for people.
        command: that repeats this.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: the folder cannot be written.
    """
    manifest = snn.manifest
    check, sites = manifest["check"], manifest["per_site"]
    blocks: list[Block] = [Lines(summary, listed=True)]
    if accuracies := check["accuracy_per_timestep"]:
        blocks.append(Plot(_chart(accuracies, check["ann_accuracy"], name, check["samples"])))
    rows = [tuple(_cell(value) for value in site.values()) for site in sites]
    if sites:
        blocks += [Heading("Neuron sites"), Lines(_COLUMNS), Table([key.replace("_", " ") for key in sites[0]], rows)]
    fingerprint, source = snn.network.graph.fingerprint(), manifest.get("source", {})
    blocks += provenance(
        network=name,
        fingerprint=fingerprint,
        source=source.get("name", ""),
        settings=json.dumps(manifest["conversion"]),
        calibration_images=manifest["calibration_images"],
        seed=str(manifest["seed"]),
        command=command,
        **manifest["versions"],
    )
    page = Page(name="conversion", title=f"Conversion of {name}", network=fingerprint, blocks=blocks)
    return page.write(folder, figures)


def _chart(accuracies: Sequence[float], ann: float | None, name: str, samples: int) -> Chart:
    """Accuracy against t on images that calibration did not see; the ANN as a dashed line."""
    steps = range(1, len(accuracies) + 1)
    series = [Series(name="SNN", x=steps, y=[100 * accuracy for accuracy in accuracies], marker="o")]
    if ann is not None:
        series.append(Series(name=f"ANN, {percent(ann)}", style="horizontal", y=(100 * ann,), color=INK, dashed=True))
    return Chart(
        name="conversion",
        title="Accuracy against timesteps",
        subtitle=f"{name}, {samples:,} held-out images",
        ylabel="accuracy (%)",
        panels=(Panel(xlabel="timesteps t", series=series, ticks=steps),),
    )


def _cell(value: object) -> str | Code:
    if isinstance(value, str):
        return Code(value)
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
