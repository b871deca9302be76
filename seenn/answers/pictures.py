"""What people name: pictures, arrays, folders, patterns, tables, tar shards and lists of them, one after the other."""

from __future__ import annotations

import csv
import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from torch import Tensor

from seenn.answers.arrays import ARRAYS, rows
from seenn.answers.formats import one_line
from seenn.answers.shards import SHARD, members, refuse
from seenn.data.picture import SUFFIXES, read_picture, say_left_out
from seenn.data.reading import reading
from seenn.data.sets.manifest import PATHS, delimiter_of, located, open_table
from seenn.errors import DataError

LIST = "-"  # stands for the lines of stdin
TABLES = (".csv", ".tsv")  # with a column called as in PATHS
FIRST = 8  # samples of an array that are looked at before any work
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Picture:
    """A picture that was named, and how to read it, in whatever process: uint8 ``[C, H, W]``, or a DataError.

    Or another sample: numbers float32 ``[...]``.
    """

    path: str
    read: Callable[[], Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", one_line(self.path))


def find_pictures(inputs: Iterable[str], shape: Sequence[int] | None = None) -> Iterator[Iterable[Picture]]:
    """All pictures of ``inputs``, in their order, in units that one process takes: a tar shard, or one file.

    What cannot be listed (a damaged shard, a folder without permission) is a picture that cannot be read in its place.

    Args:
        inputs: picture files; folders, searched at any depth in the order of names, without what is hidden; tar files;
            ``.csv`` and ``.tsv`` tables whose column ``path`` (or another of ``PATHS``) is relative to them; patterns
            (``*.png``, ``{000..099}``); ``.npy`` and ``.npz`` files of samples; ``-`` for such names on stdin, one a
            line.
        shape: of the network's input: a file with an array of just this shape holds one sample.
    """
    for given in inputs:
        names = _lines() if given == LIST else [given]
        for name in (found for line in names for found in expand(line)):
            path = Path(name)
            if path.is_dir():
                others: Counter[str] = Counter()
                yield from ((picture,) for picture in _folder(path, (), others))
                say_left_out(path, others)
            elif SHARD.search(name):
                yield _shard(path)
            elif is_array(name):
                yield _array(path, shape)
            elif path.suffix.lower() in TABLES:
                yield from ((picture,) for picture in _listed(name, _table(path)))
            else:
                yield (Picture(name, partial(read_picture, path)),)


def check_inputs(
    inputs: Iterable[str], check: Callable[[Picture], None] = lambda first: None, shape: Sequence[int] | None = None
) -> None:
    """Before any work: that everything exists and that there is a picture in it; what ``-`` lists is not known yet.

    Args:
        inputs, shape: as of ``find_pictures``.
        check: raises where the network does not take a sample of an array. What is wrong with the first ones of every
            array is said at once.

    Raises:
        DataError: names everything that is missing, and the first input without a picture.
    """
    names = [name for given in inputs if given != LIST for name in expand(given)]
    if missing := [name for name in names if not os.path.exists(name)]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(f"{', '.join(missing[:5])}{more}: no such file, folder or pattern; check the spelling")
    for name in names:
        path = Path(name)
        lists = [_folder(path, (), Counter())] if path.is_dir() else []
        if not lists and path.suffix.lower() in TABLES:
            lists = [_table(path)]
        elif not lists and SHARD.search(name):
            lists = [_shard(path)]
        if lists and next(lists[0], None) is None:
            raise DataError(f"{name}: holds no picture; expected files that end in {' '.join(sorted(SUFFIXES))}")
    if names and all(map(is_array, names)):
        errors = (_wrong(sample, check) for name in names for sample in islice(_array(Path(name), shape), FIRST))
        first = next(errors)
        if first is not None and None not in errors:
            raise first


def _wrong(sample: Picture, check: Callable[[Picture], None]) -> DataError | None:
    try:
        check(sample)
    except DataError as error:
        return error
    return None


def is_array(name: str) -> bool:
    """Whether it is called as files of arrays are."""
    return Path(name).suffix.lower() in ARRAYS


def expand(name: str) -> Iterator[str]:
    """The names that a pattern stands for; what is there, or matches nothing, stands for itself."""
    numbers = NUMBERS.search(name)
    if os.path.lexists(name) or not (numbers or glob.has_magic(name)):
        yield name
    elif numbers:
        first, last = numbers.groups()
        for number in range(int(first), int(last) + 1):
            yield from expand(f"{name[: numbers.start()]}{number:0{len(first)}}{name[numbers.end() :]}")
    else:
        yield from sorted(glob.glob(name, recursive=True)) or [name]


def _listed(name: str, pictures: Iterator[Picture]) -> Iterator[Picture]:
    """``pictures``, and where they cannot all be listed, why."""
    try:
        with reading(name):
            yield from pictures
    except DataError as error:
        yield Picture(name, partial(refuse, str(error)))


def _shard(path: Path) -> Iterator[Picture]:
    return _listed(str(path), (Picture(where, read) for where, read in members(path)))


def _array(path: Path, shape: Sequence[int] | None) -> Iterator[Picture]:
    return _listed(str(path), (Picture(where, read) for where, read in rows(path, shape)))


def _folder(folder: Path, above: tuple[tuple[int, int], ...], others: Counter[str]) -> Iterator[Picture]:
    """The pictures below; links are followed, but not into a folder ``above``. ``others`` counts the other endings."""

    def found() -> Iterator[Picture]:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise DataError(f"{folder}: is a link to a folder that it lies in; remove it")
        for name in sorted(name for name in os.listdir(folder) if not _is_hidden(name)):
            path = os.path.join(folder if folder.parts else "", name)  # a Path each would take most of the time
            if os.path.isdir(path):
                yield from _folder(Path(path), (*above, here), others)
            elif (ending := os.path.splitext(name)[1].lower()) in SUFFIXES:
                yield Picture(path, partial(read_picture, path))
            else:
                others[ending] += 1

    return _listed(str(folder), found())


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _table(path: Path) -> Iterator[Picture]:
    if not path.is_file():
        raise DataError(f"{path}: is no regular file; write the table into one")
    with open_table(path) as stream:
        rows = csv.DictReader(stream, delimiter=delimiter_of(stream), skipinitialspace=True)
        columns = rows.fieldnames or ()
        column = next((name for name in columns if name.strip().lower() in PATHS), None)
        if column is None:
            raise DataError(
                f"{path}: has the columns {', '.join(columns) or '(none)'}; expected one called {' or '.join(PATHS)}: "
                "rename it"
            )
        for row in rows:
            if row[column]:
                file = located(path.parent, row[column].strip())
                yield Picture(str(file), partial(read_picture, file))
            else:
                where = f"{path}:{rows.line_num}"
                yield Picture(where, partial(refuse, f"{where}: the column {column} is empty; expected a file"))


def _lines() -> Iterator[str]:
    with open(sys.stdin.fileno(), encoding="utf-8", errors="surrogateescape", closefd=False) as stream:
        yield from (line.rstrip("\n") for line in stream if line.strip())
