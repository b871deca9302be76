"""Benchmark results: measured values against the bars they must meet, as JSON and as a Markdown table."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from seenn.analysis.report.text import markdown_cell, markdown_code, markdown_table
from seenn.files import make_folder, write_text


@dataclass(frozen=True)
class Row:
    """One measurement. ``at_most``, ``at_least`` and ``within`` decide ``ok`` by themselves.

    Raises:
        ValueError: a value that is not finite, or a row without a bar that is not ok.
    """

    name: str  # what was measured, with its unit
    value: float
    bar: str | None  # what it must be, such as "≤ 3.0"; None: for information
    ok: bool
    command: str  # that measures it

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"row {self.name!r}: value is {self.value}; expected a finite number")
        if self.bar is None and not self.ok:
            raise ValueError(f"row {self.name!r}: has no bar, so it cannot miss one; expected ok=True")

    @classmethod
    def at_most(cls, name: str, value: float, bar: float, command: str) -> Row:
        """A row that is ok where ``value <= bar``."""
        return cls(name, value, f"≤ {bar:g}", value <= bar, command)

    @classmethod
    def at_least(cls, name: str, value: float, bar: float, command: str) -> Row:
        """A row that is ok where ``value >= bar``."""
        return cls(name, value, f"≥ {bar:g}", value >= bar, command)

    @classmethod
    def within(cls, name: str, value: float, middle: float, tolerance: float, command: str) -> Row:
        """A row that is ok where ``|value − middle| <= tolerance``."""
        return cls(name, value, f"{middle:g} ± {tolerance:g}", abs(value - middle) <= tolerance, command)


def write_results(
    path_stem: str | os.PathLike[str], title: str, rows: Sequence[Row], *, notes: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Writes ``STEM.json``, a list of the rows, and ``STEM.md``, the table made from it; returns both paths.

    The folder is made where it is missing; each file is written atomically.

    Args:
        notes: Markdown paragraphs below the table.

    Raises:
        ValueError: no rows, or two of the same name.
        OSError: the folder cannot be written.
    """
    if not rows:
        raise ValueError(f"results {title!r}: no rows; expected at least one")
    if repeated := sorted(name for name, n in Counter(row.name for row in rows).items() if n > 1):
        raise ValueError(f"results {title!r}: several rows are named {repeated}; expected each name once")
    stem = Path(path_stem)
    make_folder(stem.parent)
    data, table = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.md")
    cells = [
        (markdown_cell(row.name), f"{row.value:.6g}", row.bar or "–", _mark(row), markdown_code(row.command))
        for row in rows
    ]
    text = [f"# {title}", markdown_table(("name", "value", "bar", "ok", "command"), cells), *notes]
    write_text(data, json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(table, "\n\n".join(text) + "\n")
    return data, table


def _mark(row: Row) -> str:
    if row.bar is None:
        return "–"
    return "yes" if row.ok else "**NO**"
