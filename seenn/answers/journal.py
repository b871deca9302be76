"""A file that grows by whole records, whatever stops the process that writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from seenn.answers.formats import Lines, Row
from seenn.errors import OutputError
from seenn.files import locked, writing


class Journal:
    """A file of rows, open to be continued, and locked meanwhile.

    A last line without its end, as a process that was killed leaves it, is taken off.

    Raises:
        OutputError: another process writes it, or it cannot be written.
    """

    def __init__(self, path: Path, lines: Lines) -> None:
        self.path, self.lines = path, lines

    def __enter__(self) -> Journal:
        with writing(self.path), ExitStack() as stack:
            self._file = stack.enter_context(self.path.open("ab", buffering=0))
            if stack.enter_context(locked(self.path)) is False:
                raise OutputError(f"{self.path} is being written by another process: wait for it, or name another file")
            self._size = _whole(self.path)
            self._file.truncate(self._size)
            self._stack = stack.pop_all()
        try:
            if not self._size:
                self._put(self.lines.head)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack, writing(self.path):
            os.fsync(self._file.fileno())

    def rows(self) -> Iterator[Row]:
        """Those that are there."""
        return self.lines.read(self.path)

    def append(self, rows: Sequence[Row]) -> None:
        """Adds all of the rows, or none.

        Raises:
            OutputError: there is no space; what was there is intact.
        """
        self._put("".join(map(self.lines.encode, rows)))

    def _put(self, text: str) -> None:
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:  # an interrupt, too
            self._file.truncate(self._size)
            if not isinstance(error, OSError):
                raise
            raise OutputError(
                f"cannot write {self.path}: {error.strerror}. The answers in it are intact: make space, and go on "
                "with --resume"
            ) from error
        self._size += len(text.encode())


def _whole(path: Path) -> int:
    """How many bytes of the file are whole lines."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
