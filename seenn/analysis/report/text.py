"""Figures as people read them, and Markdown that stays one table, whatever the cells hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ENERGY_UNITS = ("pJ", "nJ", "µJ", "mJ", "J")
_COUNT_UNITS = ("", "k", "M", "G", "T")
_FEW = 6  # numbers that are read
_BEYOND = 1e38  # no score is as large, or as far below 0


def percent(fraction: float) -> str:
    """``0.93456`` as ``"93.46 %"``."""
    return f"{100 * fraction:.2f} %"


def points(difference: float) -> str:
    """A difference of two fractions as ``"0.50 points"``."""
    return f"{100 * difference:.2f} points"


def energy(picojoules: float) -> str:
    """``12_300_000`` as ``"12.3 µJ"``."""
    return _scaled(picojoules, _ENERGY_UNITS)


def count(number: float) -> str:
    """``12_300_000`` as ``"12.3 M"``."""
    return _scaled(number, _COUNT_UNITS)


def steps(number: float) -> str:
    """``1.5`` as ``"1.50 steps"``; ``8`` as ``"8 steps"``."""
    whole = float(number).is_integer()
    return f"{number:.0f} step{'' if number == 1 else 's'}" if whole else f"{number:.2f} steps"


def thresholds(value: float | Sequence[float]) -> str:
    """``0.95`` as ``"0.95"``; one for each exit point as the first few; one that no score exceeds as ``"never"``.

    One that every score exceeds is ``"always"``.
    """

    def said(number: float) -> str:
        return f"{number:.6g}" if abs(number) < _BEYOND else "never" if number > 0 else "always"

    values = value if isinstance(value, Sequence) else (value,)
    shown = ", ".join(map(said, values[:_FEW]))
    return f"{shown}, … ({len(values)}, all in the JSON)" if len(values) > _FEW else shown


def policy(description: Mapping[str, Any]) -> str:
    """An exit policy's JSON in a line: ``"policy gap, threshold 0.5"``."""

    def said(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({policy(value)})"
        numbers = value if isinstance(value, list | tuple) else [value]
        return thresholds(value) if numbers and all(isinstance(n, float) for n in numbers) else str(value)

    return ", ".join(f"{name} {said(value)}" for name, value in description.items())


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are written as they are."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def markdown_cell(text: str) -> str:
    """``text`` on one line, with nothing that would end or format a Markdown table cell."""
    for special in "\\`*_|<>[]":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.split())


def markdown_code(text: str) -> str:
    """``text`` as inline code inside a Markdown table, whatever backticks and bars it holds."""
    fence = "`"
    while fence in text:
        fence += "`"
    inner = " ".join(text.split()).replace("|", "\\|")
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{inner}{pad}{fence}"


def _scaled(number: float, units: Sequence[str]) -> str:
    """Three significant digits in the first unit (each is 1000 times the last) that reads below 1000."""
    unit, *larger = units
    while larger and float(f"{number:.3g}") >= 1000:  # as it will be read: 999.9 rounds up into the next unit
        number /= 1000
        unit, *larger = larger
    digits = f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"
    return f"{digits} {unit}".strip()
