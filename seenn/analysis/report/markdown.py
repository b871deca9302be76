"""Markdown that stays one table, whatever the cells hold."""

from __future__ import annotations

from collections.abc import Sequence


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
