"""A table of image files: CSV or TSV with the columns path and label, and if wanted split and others to group by."""

from __future__ import annotations

import codecs
import csv
import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from seenn.data.imagenet import likely_preprocessing
from seenn.data.labels import as_labels, in_order, told_task
from seenn.data.parts import NAMES, choose_parts, part_of, sounds_like_part
from seenn.data.picture import read_picture
from seenn.data.reading import reading
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import FileImages, Labelled, Source
from seenn.errors import DataError, listed

PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path")
LABELS = ("label", "class", "class_name", "target", "y")
SPLITS = ("split", "set", "subset", "part", "partition", "phase")

logger = logging.getLogger(__name__)

Row = dict[str, str]


@DATA_SETS.register("manifest")
@needs("path")
def manifest(request: Request) -> Source:
    """Rows with a header. Paths count from the folder of the manifest; labels are class names, or values.

    Classes are numbered by their numbers where all labels are integers from 0, else in the order of their names.
    Labels with a point are values to regress, and labels that ``|`` joins several classes of one image.

    Raises:
        DataError: the file is missing, is no table, lacks a column, or names files that are not there.
    """
    path = request.path
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected manifest:PATH, a CSV or TSV table with columns path and label")
    rows = read_rows(path)
    where, label, split = (_column(path, rows, names) for names in (PATHS, LABELS, SPLITS))
    if where is None or label is None:
        lacking = [" or ".join(names) for found, names in ((where, PATHS), (label, LABELS)) if found is None]
        raise DataError(
            f"{path}: has the columns {', '.join(rows[0])}; expected one called {', and one called '.join(lacking)}: "
            "rename it"
        )
    if request.group_by is not None and request.group_by not in rows[0]:
        raise DataError(
            f"{path}: has the columns {', '.join(rows[0])}; none is {request.group_by!r} to group by: choose another "
            "--group-by"
        )
    files = [located(path.parent, row[where]) for row in rows]
    if missing := [file for file in files if not file.is_file()]:
        raise DataError(
            f"{path}: {len(missing)} of {len(files)} files are not there, the first is {missing[0]}: correct the "
            "paths, which are relative to the table"
        )
    _refuse_twice(path, [os.path.normpath(file) for file in files], [row[label] for row in rows])
    names, labels = _labels(path, [row[label] for row in rows])
    task = told_task([labels])
    groups = None if request.group_by is None else [row[request.group_by] for row in rows]

    def part(chosen: Sequence[int]) -> Labelled:
        images = FileImages([files[i] for i in chosen], read_picture)
        found = as_labels(path, labels[list(chosen)], task=task)
        return Labelled(images, found, None if groups is None else [groups[i] for i in chosen])

    parts = [row[split] for row in rows] if split else []
    if wrong := sorted({name for name in parts if part_of(name) is None}):
        raise DataError(f"{path}: the column {split} has {', '.join(wrong[:4])}; expected one of {', '.join(NAMES)}")
    if not split:
        _say_of_parts(path, rows, {where, label, request.group_by})
    train, test = choose_parts(path, dict.fromkeys(parts)) if split else (None, None)
    chosen = [[i for i in range(len(rows)) if not split or parts[i] == name] for name in (train, test)]
    return Source(
        train=part(chosen[0]),
        test=part(chosen[1]) if test is not None else None,
        class_names=names,
        preprocessing=likely_preprocessing([files[i] for i in chosen[0]]),
    )


def _say_of_parts(path: Path, rows: list[Row], used: Collection[str | None]) -> None:
    """Warns of a column that seems to say which split a row is of."""
    for column in rows[0]:
        if column not in used and (sounds_like_part(column) or all(part_of(row[column]) for row in rows)):
            logger.warning(
                "%s: the column %s is left out, and all splits are dealt from all rows: if it says what rows are for, "
                "call it %s and write train, val or test",
                path,
                column,
                SPLITS[0],
            )


def _refuse_twice(path: Path, files: Sequence[str], labels: Sequence[str]) -> None:
    """One file in two rows would have two labels, or come into two splits."""
    rows: dict[str, list[int]] = {}
    for i, file in enumerate(files):
        rows.setdefault(file, []).append(i)
    if twice := [same for same in rows.values() if len(same) > 1]:
        first = twice[0]
        found = " and ".join(dict.fromkeys(labels[i] for i in first))
        raise DataError(
            f"{path}: {len(twice)} files stand in several rows, as {files[first[0]]} ({found}) in rows "
            f"{first[0] + 2} and {first[1] + 2}: keep one row a file; several labels of one image are joined by |"
        )


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV or TSV table by its header; commas, semicolons or tabs between them.

    Raises:
        DataError: it cannot be read, has no rows, or rows of another length.
    """
    with reading(path), open_table(path) as stream:
        reader = csv.DictReader(stream, delimiter=delimiter_of(stream), strict=True, skipinitialspace=True)
        names = [_stripped(name) for name in reader.fieldnames or ()]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise DataError(f"{path}: has several columns called {listed(twice)}: rename all but one")
        rows = [{_stripped(name): _stripped(value) for name, value in row.items()} for row in reader]
    if not rows:
        raise DataError(f"{path}: has no rows; expected a header and one row an image")
    if bad := [number for number, row in enumerate(rows, 2) if None in row or None in row.values()]:
        raise DataError(
            f"{path}: {len(bad)} rows have another number of columns, the first is row {bad[0]}: write them again"
        )
    return rows


def _stripped(text: Any) -> Any:
    return text.strip() if isinstance(text, str) else text


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """A table's text, of UTF-8, or UTF-16 that begins as such.

    Raises:
        DataError: it is in another encoding, or JSON.
    """
    with path.open("rb") as file:
        head = file.read(2)
    encoding = "utf-16" if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    if head[:1] in (b"{", b"["):
        raise DataError(
            f"{path}: is JSON, expected a CSV or TSV table: pandas.read_json(FILE, lines=True).to_csv('list.csv') "
            "makes one"
        )
    try:
        with path.open(encoding=encoding, newline="") as stream:
            yield stream
    except UnicodeError as error:
        raise DataError(
            f"{path}: is not in UTF-8 ({error}), perhaps in Latin-1 as older programs write: save it as UTF-8"
        ) from error


def located(folder: Path, name: str) -> Path:
    """The file that a table in ``folder`` calls ``name``, be it with the separators of Windows."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def delimiter_of(stream: TextIO) -> str:
    """What stands between the names of the header: a tab, a semicolon or a comma."""
    head = stream.readline()
    stream.seek(0)
    return max("\t;,", key=head.count)


def _column(path: Path, rows: list[Row], names: Sequence[str]) -> str | None:
    found = [column for column in rows[0] if column.strip().lower() in names]
    if len(found) > 1:
        raise DataError(f"{path}: the columns {' and '.join(found)} could both be the {names[0]}: keep one of them")
    return found[0] if found else None


def _labels(path: Path, texts: list[str]) -> tuple[tuple[str, ...], np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    """Class names and labels as an array; see ``manifest``."""
    texts = [text.strip() for text in texts]
    if empty := sum(not text for text in texts):
        raise DataError(f"{path}: {empty} rows have no label: fill them in, or take them out")
    if any("|" in text for text in texts):
        sets = [{part.strip() for part in text.split("|")} for text in texts]
        if empty := sum("" in found for found in sets):
            raise DataError(f"{path}: {empty} rows have an empty label beside a |: take the | out")
        names = in_order(path, set().union(*sets))
        return tuple(names), np.array([[name in found for name in names] for found in sets])
    if all(text.isdecimal() for text in texts):
        known = sorted({*map(int, texts)})
        if known != list(range(len(known))):
            raise DataError(
                f"{path}: labels are {len(known)} numbers from {known[0]} to {known[-1]}, expected 0 to K-1: number "
                f"them from 0, or write names (class{known[0]}) for classes in the order of their names"
            )
        return tuple(map(str, known)), np.array(texts, dtype=np.int64)
    codes = all(re.fullmatch(r"\d+e\d+", text, re.IGNORECASE) for text in texts)  # such as 12e3, of a hash
    values = [None if codes else _number(text) for text in texts]
    if None not in values:
        array = np.array(values, dtype=np.float64)
        return ("value",) if told_task([array]) == "regression" else ("0", "1"), array
    names = sorted(set(texts))
    return tuple(names), np.array([names.index(text) for text in texts])


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None
