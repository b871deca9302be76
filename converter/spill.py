"""Tensors that wait for their use: in memory up to a bound, beyond it in temporary files.

The files have no name in any folder, so that nothing is left of them however the process ends. They are read and
written as files are, not mapped: what is mapped counts as the process's memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import torch
from torch import Size, Tensor

from seenn.errors import CalibrationError


@dataclass
class Spill:
    """The memory that series share.

    Attributes:
        free: bytes that are left of it.
        folder: where the files are; the system's for temporary ones, which the variable TMPDIR names.
    """

    free: int
    folder: str = field(default_factory=tempfile.gettempdir)


class Series:
    """Tensors, appended one after the other and read by number: as they were, bit for bit, on the CPU.

    The first ones stay in memory, as far as there is room in ``spill``.
    """

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._parts: list[Tensor | tuple[int, Size, torch.dtype]] = []  # or where in the file, and what
        self._file: IO[bytes] | None = None

    def append(self, tensor: Tensor) -> None:
        """Adds one.

        Raises:
            CalibrationError: the file cannot be written: no space, no permission.
        """
        tensor = tensor.detach().cpu().contiguous()
        if tensor.nbytes <= self._spill.free:
            self._spill.free -= tensor.nbytes
            self._parts.append(tensor)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="seenn-", dir=self._spill.folder)  # noqa: SIM115 (close())
            start = self._file.seek(0, os.SEEK_END)
            self._file.write(tensor.flatten().view(torch.uint8).numpy().data)
            self._file.flush()
        except OSError as error:
            raise CalibrationError(
                f"calibration cannot write its temporary file in {self._spill.folder}: {error.strerror}; free space "
                "there, name another folder by the variable TMPDIR, or allow more memory (--memory)"
            ) from error
        self._parts.append((start, tensor.shape, tensor.dtype))

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> Tensor:
        part = self._parts[number]
        if isinstance(part, Tensor):
            return part
        start, shape, dtype = part
        assert self._file is not None
        tensor = torch.empty(shape, dtype=dtype)
        self._file.seek(start)
        read = self._file.readinto(tensor.flatten().view(torch.uint8).numpy().data)  # type: ignore[attr-defined]
        assert read == tensor.nbytes, f"a temporary file in {self._spill.folder} was cut"
        return tensor

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def close(self) -> None:
        """Gives back memory and disk space."""
        self._spill.free += sum(part.nbytes for part in self._parts if isinstance(part, Tensor))
        self._parts.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
