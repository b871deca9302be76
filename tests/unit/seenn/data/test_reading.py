"""Failures while reading name the file and tell apart what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from seenn.data.reading import MAX_INFLATED, check_declared_size, reading
from seenn.errors import DataError


def test_file_that_the_system_refuses_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"^some file: cannot be opened: Is a directory; check the path"),
        reading("some file"),
    ):
        tmp_path.open()


def test_decoder_failure_says_that_the_file_is_damaged() -> None:
    message = r"^a\.bin: cannot be read \(UnicodeDecodeError: .*damaged or of another kind: fetch or write"
    with pytest.raises(DataError, match=message), reading("a.bin"):
        b"\xff".decode()


def test_compressed_file_cannot_hold_more_than_deflate_allows() -> None:
    check_declared_size("a.gz", 1_032_000, 1000, deflated=True)
    with pytest.raises(DataError, match="declares 1,032,001 bytes of data, but at most 1,032,000 are possible"):
        check_declared_size("a.gz", 1_032_001, 1000, deflated=True)
    with pytest.raises(DataError, match="at most 8,589,934,592 are possible"):
        check_declared_size("a.gz", MAX_INFLATED + 1, MAX_INFLATED, deflated=True)
