"""Weights as arrays of numpy in one file, ``np.savez(file, **{name: array})``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seenn.errors import CheckpointError, first_line

_MOST_BYTES = 2**34  # of all arrays together, which may be compressed
_HEADER, _LONGEST = 30, 1024  # bytes of a member's header in a zip archive, and of the name after it


def is_arrays(file: Path) -> bool:
    """Whether a file is an archive that begins with an array, whatever its name says."""
    with file.open("rb") as stream:
        start, name = stream.read(_HEADER), stream.read(_LONGEST)
    return start[:4] == b"PK\x03\x04" and name[: int.from_bytes(start[26:28], "little")].endswith(b".npy")


def read_arrays(file: Path) -> dict[str, Tensor]:
    """Every array by its name; of objects there are none, which only running code would make.

    Raises:
        CheckpointError: it is damaged, too large, or holds objects or text.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            declared = sum(member.file_size for member in arrays.zip.infolist())
            if declared > _MOST_BYTES:
                raise ValueError(f"declares {declared:,} bytes")
            return {name: torch.from_numpy(_native(arrays[name])) for name in arrays.files}
    except Exception as error:  # a damaged or hostile archive can raise anything
        raise CheckpointError(
            f"{file}: not arrays of numbers, or damaged or truncated ({first_line(error)}); save them by "
            "np.savez(file, **weights)"
        ) from error


def _native(array: np.ndarray) -> np.ndarray:
    """In the byte order of this machine, which torch takes alone."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
