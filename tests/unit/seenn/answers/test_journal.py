from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from seenn.answers import COLUMNS, Row
from seenn.answers.formats import CSV, JSON_LINES, Lines
from seenn.answers.journal import Journal
from seenn.errors import OutputError

BOTH = pytest.mark.parametrize("lines", [CSV, JSON_LINES], ids=lambda lines: lines.name)


def row(number: int) -> Row:
    return dict(zip(COLUMNS, (f"{number}, a.png", number, "cat", 0.5, 2, 1, 0.25, None, None), strict=True))


@BOTH
def test_whatever_was_cut_off_only_whole_rows_are_there_and_more_can_follow(lines: Lines, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    with Journal(path, lines) as journal:
        journal.append([row(0), row(1)])
        journal.append([])
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with Journal(path, lines) as journal:
            there = list(journal.rows())
            assert there == [row(0), row(1)][: max(0, whole[:size].count(b"\n") - bool(lines.head))]
            journal.append([row(number) for number in range(len(there), 3)])
        assert list(lines.read(path)) == [row(0), row(1), row(2)]


def test_a_last_line_longer_than_what_is_read_at_once_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "answers"
    with Journal(path, JSON_LINES) as journal:
        journal.append([row(0)])
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    with Journal(path, JSON_LINES) as journal:
        assert list(journal.rows()) == [row(0)]


@BOTH
def test_a_full_disk_leaves_every_row_that_was_whole(lines: Lines, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # as Python starts
    with Journal(path, lines) as journal:
        journal.append([row(0)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
        try:
            with pytest.raises(
                OutputError, match=r"cannot write .*answers: .*The answers in it are intact: make space"
            ):
                journal.append([row(1), row(2)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(journal.rows()) == [row(0)]
        journal.append([row(1)])
    assert list(lines.read(path)) == [row(0), row(1)]


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "answers", CSV),
        pytest.raises(OutputError, match=r"answers is being written by another process: wait for it, or name another"),
        Journal(tmp_path / "answers", CSV),
    ):
        raise AssertionError("a second writer")
