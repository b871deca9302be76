"""Tar files of pictures, as webdataset writes them: read where they lie, nothing is unpacked to the disk."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Self

from torch import Tensor

from seenn.data.picture import SUFFIXES, decode_picture
from seenn.errors import DataError

SHARD = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz)$", re.IGNORECASE)
MAX_PICTURE = 256 << 20  # bytes of a picture file
MAX_HEADER = 1 << 20  # bytes of what describes one


class _Header(tarfile.TarInfo):
    """A header that is whole: where one is not, ``tarfile`` would take it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):  # the end mark
                raise
            raise tarfile.ReadError(f"it has a {error}") from error
        if header.size > MAX_HEADER and not header.isreg():
            raise tarfile.ReadError(f"it has a header of type {header.type!r} and {header.size:,} bytes")
        return header


def members(path: Path) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The name ``FILE/MEMBER`` of each picture in a tar file, in its order, and how it is read.

    Headers alone are read here; where the file is compressed, pictures as well. Names are only names: nothing is opened
    by them. Other members (labels, texts) and hidden ones are left out.

    Raises:
        DataError: the file is missing, damaged or ends before its end mark; the pictures before that come first.
    """
    compressed = path.suffix.lower() != ".tar"
    with tarfile.open(path, "r|*" if compressed else "r:", tarinfo=_Header) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or every header would be kept
            name = PurePosixPath(member.name)
            if name.suffix.lower() not in SUFFIXES or name.name.startswith(".") or member.isdir():
                continue
            where = f"{path}/{member.name}"
            if not member.isreg() or member.issparse():
                yield where, partial(refuse, f"{where}: is a link or has holes; store it as a plain file")
            elif member.size > MAX_PICTURE:
                size = f"has {member.size:,} bytes, at most {MAX_PICTURE:,} are read; store it smaller"
                yield where, partial(refuse, f"{where}: {size}")
            elif compressed:
                content = archive.extractfile(member)
                assert content is not None  # of a plain file
                yield where, partial(_decode, where, content.read())
            else:
                yield where, partial(_read, where, path, member.offset_data, member.size)


def _read(where: str, path: Path, start: int, size: int) -> Tensor:
    with path.open("rb") as archive:
        archive.seek(start)
        return _decode(where, archive.read(size))


def _decode(where: str, content: bytes) -> Tensor:
    return decode_picture(where, BytesIO(content))


def refuse(message: str) -> Tensor:
    """How a picture is read that cannot be."""
    raise DataError(message)
