"""Data sets of Hugging Face's ``datasets`` on disk, as ``save_to_disk`` writes them."""

from __future__ import annotations

from typing import Any

from seenn.data.objects import source_of, source_of_parts
from seenn.data.parts import choose_parts
from seenn.data.reading import reading
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import Source
from seenn.errors import DataError


@DATA_SETS.register("hf")
@needs("path")
def hf(request: Request) -> Source:
    """A folder of ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` with columns image and label.

    Raises:
        DataError: the package ``datasets`` is not installed, the folder is missing or of another kind, or a column is.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{request.path}: reading it needs the package datasets: pip install datasets") from error
    if not request.path.is_dir():
        raise DataError(f"{request.path}: no such folder; expected hf:PATH, written by save_to_disk")
    with reading(request.path):
        found: Any = datasets.load_from_disk(str(request.path))
    if not isinstance(found, datasets.DatasetDict):
        return source_of(found)
    first, second = choose_parts(request.path, found)
    return source_of_parts(found[first], None if second is None else found[second])
