"""A page of a report as blocks, which Markdown and HTML show alike. Texts are plain: each form escapes them itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import TemplateError

from seenn.analysis.report.chart import Chart
from seenn.analysis.report.folder import HTML, PAGES, foreign_files
from seenn.analysis.report.html import render, shown_chart
from seenn.analysis.report.text import markdown_cell, markdown_code, markdown_table
from seenn.errors import OutputError
from seenn.files import PathLike, atomic_folder, make_folder, write_text

log = logging.getLogger(__name__)

KINDS = ("heading", "lines", "table", "picture", "chart")


class Block(Protocol):
    """A part of a page."""

    def markdown(self) -> str:
        """As Markdown."""

    def to_json(self) -> dict[str, Any]:
        """What HTML shows, with its ``kind``."""


@dataclass(frozen=True)
class Code:
    """Text of a cell that is shown as code."""

    text: str


Cell = str | Code


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str

    def markdown(self) -> str:
        return f"## {markdown_cell(self.text)}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "heading", "text": self.text}


@dataclass(frozen=True)
class Lines:
    """Sentences: a paragraph, or one item each."""

    sentences: Sequence[str]
    listed: bool = False

    def markdown(self) -> str:
        return "\n".join(f"- {text}" for text in self.sentences) if self.listed else " ".join(self.sentences)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "lines", "sentences": list(self.sentences), "listed": self.listed}


@dataclass(frozen=True)
class Table:
    """Rows of cells under the names of their columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        cells = [[markdown_code(c.text) if isinstance(c, Code) else markdown_cell(c) for c in row] for row in self.rows]
        return markdown_table([*map(markdown_cell, self.columns)], cells)

    def to_json(self) -> dict[str, Any]:
        cells = [[{"code": c.text} if isinstance(c, Code) else {"text": c} for c in row] for row in self.rows]
        return {"kind": "table", "columns": list(self.columns), "rows": cells}


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder."""

    file: str
    title: str
    draw: Callable[[PathLike], None]  # writes it

    def markdown(self) -> str:
        return f"![{self.title}]({self.file})"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "picture", "file": self.file, "title": self.title}


@dataclass(frozen=True)
class Plot:
    """A chart: its PNG in Markdown, interactive in HTML."""

    chart: Chart

    @property
    def file(self) -> str:
        return self.chart.file

    def draw(self, path: PathLike) -> None:
        self.chart.draw(path)

    def markdown(self) -> str:
        return f"![{self.chart.title}]({self.file})"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "chart", **shown_chart(self.chart)}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one command reports.

    Attributes:
        name: of its files.
        title: what was run on what.
        network: fingerprint of the network that it is about.
        blocks: from top to bottom.
    """

    name: str
    title: str
    network: str
    blocks: Sequence[Block]

    def write(self, folder: PathLike, figures: Mapping[str, Any]) -> Path:
        """Writes the pictures, ``NAME.md``, ``NAME.json``, and ``report.html``: all or none; returns the last's path.

        ``report.html`` shows all pages that the folder has of this network. The folder is made where it is missing;
        files of an earlier report are replaced.

        Raises:
            OutputError: the folder cannot be written, or has files of these names that are none of seenn's.
        """
        target = Path(folder)
        make_folder(target.parent)
        with atomic_folder(target) as inside:
            for block in self.blocks:
                if isinstance(block, Plot | Picture):
                    block.draw(inside / block.file)
            sections = [f"# {markdown_cell(self.title)}", *(block.markdown() for block in self.blocks)]
            write_text(inside / f"{self.name}.md", "\n\n".join(sections) + "\n")
            write_json(inside / f"{self.name}.json", figures)
            own = {"title": self.title, "network": self.network, "blocks": [block.to_json() for block in self.blocks]}
            pages = {name: page for name, page in read_pages(target).items() if page["network"] == self.network}
            pages[self.name] = own
            write_json(inside / PAGES, pages)
            write_text(inside / HTML, render(list(pages.values()), inside, target))
            if found := foreign_files(target, (file.name for file in inside.iterdir())):
                raise OutputError(found)
        return target / HTML


def read_pages(folder: Path) -> dict[str, dict[str, Any]]:
    """The pages of an earlier report by name, as JSON; none where there is no report, or it is damaged."""
    path = folder / PAGES
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        pages = {
            str(name): {"title": str(page["title"]), "network": str(page["network"]), "blocks": list(page["blocks"])}
            for name, page in found.items()
        }
        if any(block["kind"] not in KINDS for page in pages.values() for block in page["blocks"]):
            raise ValueError("a block of an unknown kind")
        render(list(pages.values()), folder)
    except (AttributeError, LookupError, OSError, TypeError, ValueError, TemplateError) as error:
        log.warning("%s is damaged, and what it held is left out (%s)", path, type(error).__name__)
        return {}
    return pages


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as JSON, atomically; raises as ``write_text``, and ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def provenance(**what: object) -> Iterator[Block]:
    """How to repeat it: a table of what was run with what."""
    yield Heading("How to repeat it")
    yield Table(
        ("what", "value"), [(name.replace("_", " "), Code(str(value))) for name, value in what.items() if value]
    )
