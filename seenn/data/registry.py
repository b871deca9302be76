"""Data sets by name: ``seenn/data/sets/fashion_mnist.py`` is ``fashion-mnist``; others register from outside.

::

    @DATA_SETS.register("toy")
    def toy(request: Request) -> Source:
        return Source(train=labelled_arrays("toy", images, labels), class_names=("cat", "dog"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from seenn.registry import Registry

if TYPE_CHECKING:
    from seenn.data.source import Source

KINDS = {".npz": "npz", ".csv": "manifest", ".tsv": "manifest"}  # of paths, by their suffix
Needs = Literal["folder", "path", "nothing"]
Reader = TypeVar("Reader")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a data set is asked for."""

    path: Path = Path()  # what follows the colon of the name; only where the set needs a path
    data_dir: Path | None = None  # the folder of its files
    download: bool = False  # fetch what is missing into data_dir
    frames: int = 4  # a recording of events is divided into so many
    group_by: str | None = None  # what keeps samples together: a column, or a level of folders


class DataSet(Protocol):
    """Reads what it is asked for; a function does. What else it says, it says by :func:`needs`.

    Raises:
        DataError: files are missing (says where they were looked for) or damaged, or cannot be fetched.
    """

    def __call__(self, request: Request, /) -> Source: ...


DATA_SETS: Registry[DataSet] = Registry("data set", "seenn.data.sets")


def needs(what: Needs, *, downloads: bool = False) -> Callable[[Reader], Reader]:
    """Decorator: where a data set finds its files. Without it, in ``data_dir``, and it cannot fetch them.

    Args:
        what: ``folder`` is ``data_dir``; a ``path`` follows the name after a colon; ``nothing``: no files.
        downloads: whether it can fetch them into ``data_dir``.
    """

    def say(reader: Reader) -> Reader:
        for name, value in (("needs", what), ("downloads", downloads)):
            setattr(reader, name, value)
        return reader

    return say


def data_help() -> str:
    """What ``--data`` takes; imports no data set."""
    return f"NAME, or NAME:PATH for files of your own, as npz:PATH; one of {', '.join(DATA_SETS.names())}"
