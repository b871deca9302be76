"""Reading files that may be damaged or hostile: every failure names the file, no size is believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    except Exception as error:  # decoders raise anything from OSError and SyntaxError to struct.error
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"{where}: cannot be opened: {error.strerror}") from error
        raise DataError(
            f"{where}: cannot be read ({type(error).__name__}: {error}); "
            "the file is damaged or of another kind: fetch or write it again"
        ) from error


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
