"""Rows of answers as CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from seenn.errors import CheckpointError, OutputError

Row = Mapping[str, Any]

#: Of an answers file; None stands in what is not known: the answer of a picture that could not be read, or its error.
COLUMNS: Mapping[str, type] = {
    "path": str,
    "label": int,
    "class": str,
    "confidence": float,
    "exit_timestep": int,
    "exit_segment": int,  # the exit in that step: 1, 2, … for heads and the step's end
    "cost": float,  # share of what all T steps cost
    "values": list,  # of a network of labels the probability of each, of one of quantities these; else None
    "error": str,
}
BLOCK = 10_000  # rows of Parquet in one group


def one_line(text: str) -> str:
    """``text`` with its line ends, other control characters and what is no Unicode written as ``\\n`` is."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", lambda c: c[0].encode("unicode_escape").decode(), text)


class Format(Protocol):
    """How rows are stored."""

    @property
    def name(self) -> str:
        """Its suffix."""

    def check(self) -> None:
        """Raises OutputError where what it needs is not installed."""

    def read(self, path: Path) -> Iterator[Row]:
        """The rows of a file, one after the other."""

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """A whole file."""


@dataclass(frozen=True)
class Lines:
    """A record a line, so that a file may grow at its end, and what is half-written is told from what is whole."""

    name: str
    head: str
    encode: Callable[[Row], str]
    decode: Callable[[str], Row]

    def check(self) -> None:
        """Nothing is needed."""

    def read(self, path: Path) -> Iterator[Row]:
        with path.open(encoding="utf-8", newline="\n") as stream:
            if stream.read(len(self.head)) != self.head:
                raise CheckpointError(f"{path}: has other columns than answers have; name another file with -o")
            for number, line in enumerate(stream, 1):
                try:
                    yield self.decode(line)
                except (ValueError, csv.Error) as error:
                    raise CheckpointError(
                        f"{path}: answer {number} cannot be read: it was changed; name another file with -o"
                    ) from error

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(self.head)
            stream.writelines(map(self.encode, rows))


class Parquet:
    """One file, through pyarrow; written when all rows are there."""

    name = "parquet"

    def check(self) -> None:
        if find_spec("pyarrow") is None:
            raise OutputError(
                "Parquet needs the package pyarrow: pip install 'seenn[parquet]', or write .csv or .jsonl"
            )

    def read(self, path: Path) -> Iterator[Row]:
        with import_module("pyarrow.parquet").ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        arrow = import_module("pyarrow")
        types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), list: arrow.list_(arrow.float64())}
        schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        rest = iter(rows)
        with import_module("pyarrow.parquet").ParquetWriter(path, schema) as file:
            while block := list(islice(rest, BLOCK)):
                file.write_table(arrow.Table.from_pylist(block, schema))


def _cells(*values: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _cell(value: Any) -> Any:
    return " ".join(map(repr, value)) if isinstance(value, list) else value


def _from_cells(line: str) -> Row:
    (cells,) = csv.reader([line], strict=True)
    return {
        name: None if not cell else [*map(float, cell.split())] if kind is list else kind(cell)
        for (name, kind), cell in zip(COLUMNS.items(), cells, strict=True)
    }


def _from_json(line: str) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict) or row.keys() != COLUMNS.keys():
        raise ValueError(f"expected an object with {', '.join(COLUMNS)}")
    return row


CSV = Lines("csv", _cells(*COLUMNS), lambda row: _cells(*(_cell(row[name]) for name in COLUMNS)), _from_cells)
JSON_LINES = Lines("jsonl", "", lambda row: json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n", _from_json)

#: By the suffix of the file.
FORMATS: Mapping[str, Format] = {format.name: format for format in (CSV, JSON_LINES, Parquet())}
