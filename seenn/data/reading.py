"""Reading files that may be damaged or hostile: every failure names the file, no size is believed."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from seenn.errors import DataError

DEFLATE_RATIO = 1032  # deflate cannot shrink further (zlib's technical details), so a file cannot hold more
MAX_INFLATED = 8 << 30  # bytes; larger arrays must be stored uncompressed, or as a folder of images


@contextmanager
def reading(where: object) -> Iterator[None]:
    """Turns whatever a damaged file makes its decoder raise into a ``DataError`` that names ``where``."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{where}: does not fit into memory: give a smaller one") from error
    except Exception as error:  # decoders raise anything from OSError and SyntaxError to struct.error
        if isinstance(error, OSError) and error.errno:
            raise DataError(
                f"{where}: cannot be opened: {error.strerror}; check the path and its permissions"
            ) from error
        raise DataError(
            f"{where}: cannot be read ({type(error).__name__}: {error}); "
            "the file is damaged or of another kind: fetch or write it again"
        ) from error


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Puts ``where`` before what a ``DataError`` says, unless it is in there."""
    try:
        yield
    except DataError as error:
        if str(where) in str(error):
            raise
        raise type(error)(f"{where}: {error}") from error


def check_declared_size(where: object, declared: int, on_disk: int, *, deflated: bool) -> None:
    """Refuses a header that declares more bytes than the file can hold, before they are allocated.

    Raises:
        DataError: ``declared`` exceeds ``on_disk`` bytes, or what they could inflate to.
    """
    largest = min(on_disk * DEFLATE_RATIO, MAX_INFLATED) if deflated else on_disk
    if declared > largest:
        raise DataError(
            f"{where}: the header declares {declared:,} bytes of data, but at most {largest:,} are possible "
            f"with {on_disk:,} bytes on disk; the file is truncated or forged: fetch or write it again"
        )


def is_hidden(name: str) -> bool:
    """What no person put there: names that begin with a dot, and what macOS and Windows leave behind."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN")


def list_files(folder: Path, suffixes: Collection[str], others: Counter[str] | None = None) -> list[Path]:
    """The files below ``folder`` with one of these endings, sorted; hidden ones and hidden folders are left out.

    ``others`` counts the endings of the rest.

    Raises:
        OSError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:  # os.walk would pass over the folder
        raise error

    if not folder.is_dir():
        return []
    paths = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]  # walk goes into what is left
        paths += [Path(parent, name) for name in names if not is_hidden(name)]
    found = [path for path in paths if path.suffix.lower() in suffixes]
    if others is not None and len(found) < len(paths):
        others.update(ending for path in paths if (ending := path.suffix.lower()) not in suffixes)
    return sorted(found)


def file_size(path: Path) -> int:
    """In bytes."""
    with reading(path):
        return path.stat().st_size


def file_digest(path: Path) -> int:
    """A 64-bit hash (BLAKE2b) of a file's bytes."""
    with reading(path), path.open("rb") as stream:
        return to_int64(hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=8)).digest())


def to_int64(digest: bytes) -> int:
    """8 bytes as a number that a tensor holds."""
    return int.from_bytes(digest, "little", signed=True)
