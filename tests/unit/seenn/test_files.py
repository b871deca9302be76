from __future__ import annotations

from pathlib import Path

import pytest

from seenn.files import atomic_path, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "älter")

    def interrupted() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text(encoding="utf-8") == "älter"
    write_text(target, "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.json", "new")]


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        write_text(tmp_path / "nowhere" / "file", "text")


def test_a_new_file_is_as_readable_as_any_other_and_an_older_one_keeps_its_mode(tmp_path: Path) -> None:
    ordinary, target = tmp_path / "ordinary", tmp_path / "target"
    ordinary.touch()

    def write() -> int:
        with atomic_path(target) as temporary:
            temporary.unlink()  # as a library does that makes its own private file
            temporary.touch(mode=0o600)
        return target.stat().st_mode

    assert write() == ordinary.stat().st_mode
    target.chmod(0o640)
    assert write() & 0o777 == 0o640
