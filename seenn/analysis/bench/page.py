"""The report of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seenn.analysis.bench.figures import Bench
from seenn.analysis.bench.plots import growth_chart, speed_chart
from seenn.analysis.report.figures import PathLike
from seenn.analysis.report.page import Block, Lines, Page, Plot, Table, provenance


def write_bench(
    found: Bench,
    figures: Mapping[str, Any],
    tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]],
    network: str,
    command: str,
    folder: PathLike,
) -> Path:
    """Writes ``bench.md``, ``bench.json``, ``report.html`` and the plots into ``folder``, all or none.

    Args:
        figures: what the JSON says.
        tables: columns and rows.
        network: its fingerprint.
        command: that repeats this.

    Returns:
        The path of ``report.html``.

    Raises:
        OutputError: the folder cannot be written.
    """
    name = str(figures["network"])
    subject = f"{name}, {figures['samples']} test images"
    charts = (speed_chart(found.speed_and_accuracy, subject), growth_chart([found.growth], subject))
    notes: list[Block] = [Lines(figures["notes"], listed=True)] if figures["notes"] else []
    blocks: list[Block] = [*(Table(*table) for table in tables), *map(Plot, charts), *notes]
    blocks += provenance(network=name, fingerprint=network, command=command, **figures["machine"])
    page = Page(name="bench", title=f"Speed of {name}", network=network, blocks=blocks)
    return page.write(folder, figures)
