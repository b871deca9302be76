from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from safetensors import safe_open

from seenn.errors import CheckpointError, FileNameError, OutputError
from seenn.files import (
    atomic_folder,
    atomic_path,
    check_output,
    locked,
    make_folder,
    refuse_other_kind,
    remove_stale,
    version_of,
    write_text,
    writing,
)


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


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_gets_all_files_or_none_and_nothing_is_written_around_one_that_is_there(
    tmp_path: Path, there: bool
) -> None:
    target = tmp_path / "report"
    if there:
        target.mkdir()
        (target / "other").write_text("kept")
    before = {path.name for path in tmp_path.rglob("*")}

    def write(*, fail: bool) -> None:
        with atomic_folder(target) as inside:
            assert inside.is_relative_to(target) == there
            (inside / "a").write_text("new")
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(fail=True)
    assert {path.name for path in tmp_path.rglob("*")} == before
    write(fail=False)
    assert {path.name for path in tmp_path.rglob("*")} == {"report", "a", *before}


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


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 255), "text")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize("where", ["nowhere/file", "file/below"])
def test_what_has_no_folder_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    expected = rf"cannot write .*{where}: the folder .* does not exist. Nothing was written. Check that the folder"
    with pytest.raises(OSError, match=expected):
        write_text(tmp_path / where, "text")
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        check_output(tmp_path / where)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    with pytest.raises(OutputError, match=r"cannot write .*/file: File exists\. What was there before is intact"):
        make_folder(tmp_path / "file")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 7))
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize("make", [Path.mkdir, fifo, device])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, make: Callable[[Path], None], linked: bool) -> None:
    special = target = tmp_path / "special"
    make(special)
    if linked:
        target = tmp_path / "link"
        target.symlink_to(special)
    before = special.lstat()
    with pytest.raises(OutputError, match=rf"{target} is a (folder|device or a pipe), not a (regular )?file; nothing"):
        write_text(target, "text")
    with pytest.raises(ValueError, match=rf"{target} is a (folder|device or a pipe), not a"):
        check_output(target)
    assert (special.lstat().st_ino, special.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert len(list(tmp_path.iterdir())) == 1 + linked


def test_a_link_stays_one_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    real, link, dangling = tmp_path / "far" / "real", tmp_path / "link", tmp_path / "dangling"
    real.write_text("older")
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "far" / "new")
    for path in (link, dangling):
        write_text(check_output(path), "newer")
        assert path.is_symlink()
    assert {path.name: path.read_text() for path in (tmp_path / "far").iterdir()} == {"real": "newer", "new": "newer"}
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(OutputError, match="link cannot be written: Too many levels of symbolic links"):
        write_text(link, "text")


@pytest.mark.parametrize(
    "name", ["net.py", "T.CSV", "notes.txt", "run.toml", "pic.png", "p.jpg", "page.html", "README.md"]
)
def test_names_that_promise_another_kind_of_file_are_refused(name: str) -> None:
    with pytest.raises(FileNameError, match=rf"is a \.onnx file, and {name} says \.\w+: name it …\.onnx"):
        refuse_other_kind(name, ".onnx")
    for other in ("net.onnx", "net", "net.v2"):
        refuse_other_kind(other, ".onnx")


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file
from seenn.files import atomic_path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
tensors, said = {"a": torch.zeros(4000)}, []
for write in (lambda path: save_file(tensors, path), lambda path: torch.save(tensors, path),
              lambda path: Figure().savefig(path, format="png"), lambda path: path.write_text("a" * 4000)):
    try:
        with atomic_path(sys.argv[1]) as temporary:
            write(temporary)
    except Exception as error:
        said.append(f"{type(error).__name__} {error}")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # the output is a file too
print(*said, sep="\\n")
"""


def test_whatever_writes_on_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("older")
    done = forked.run("-c", FULL, target)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.startswith(f"OutputError cannot write {target}: ")
        assert ". What was there before is intact. Check that the folder exists, is writable and has space" in line
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("target", "older")]


def test_what_fails_within_a_folder_is_said_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, atomic_folder(tmp_path / "report") as inside, writing(inside / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value).startswith(f"cannot write {tmp_path / 'report'}: No space left on device. No part of it")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match=r"^a device$"), atomic_folder(tmp_path / "report"):
        raise OutputError("a device")


def test_an_error_that_is_not_the_disks_passes_through(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^a bug$"), atomic_path(tmp_path / "a"):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("change", [lambda path: write_text(path, "other"), Path.unlink])
def test_a_file_that_changed_since_it_was_read_is_not_replaced(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    target = tmp_path / "snn"
    target.write_text("older")
    version = version_of(target)
    with atomic_path(target, version) as temporary:
        temporary.write_text("newer")
    assert target.read_text() == "newer"
    version = version_of(target)
    change(target)
    before = [path.read_text() for path in tmp_path.iterdir()]
    expected = "snn changed since it was read; nothing was written: run the command again"
    with pytest.raises(CheckpointError, match=expected), atomic_path(target, version) as temporary:
        temporary.write_text("lost")
    assert [path.read_text() for path in tmp_path.iterdir()] == before


def test_of_writers_that_read_the_same_version_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "snn"
    for _ in range(20):
        target.write_text("0")
        version, start, outcomes = version_of(target), threading.Barrier(4), []

        def write(version=version, start=start, outcomes=outcomes) -> None:  # type: ignore[no-untyped-def]
            try:
                with atomic_path(target, version) as temporary:
                    temporary.write_text("1")
                    start.wait()
            except CheckpointError:
                outcomes.append(False)
            else:
                outcomes.append(True)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == [False, False, False, True]


KILLED = """
import os, signal, sys
from seenn.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_goes_with_the_next_write_and_a_living_writers_stays(tmp_path: Path) -> None:
    target = tmp_path / "snn.safetensors"
    for _ in range(2):
        done = forked.run("-c", KILLED, target)
        assert done.returncode == -signal.SIGKILL
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    (tmp_path / ".snn.safetensors.0123abcd.tmp").touch()  # as a file, it was left by an older version
    with atomic_path(target) as living:
        living.write_text("living")
        assert list(tmp_path.iterdir()) == [living.parent]
        write_text(target, "other")
        remove_stale(target)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("snn.safetensors", "living")]


def test_a_lock_is_held_by_one_and_let_go_at_the_end(tmp_path: Path) -> None:
    with locked(tmp_path) as first, locked(tmp_path) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path) as again:
        assert again


def test_where_there_are_no_locks_files_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seenn.files.fcntl", None)
    stale = tmp_path / ".a.0123abcd.tmp"
    stale.touch()  # perhaps a living writer's
    write_text(tmp_path / "a", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"a", stale.name}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_forked_does_not_keep_the_lock(tmp_path: Path) -> None:
    read, write = os.pipe()
    with locked(tmp_path) as held:
        assert held
        if (child := os.fork()) == 0:
            os.close(write)
            os.read(read, 1)  # lives longer than the lock
            os._exit(0)
    with locked(tmp_path) as again:
        assert again
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)


def test_what_was_read_is_apart_from_the_file(tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "from seenn.files import read_tensors, write_tensors\n"
        "path = sys.argv[1]\n"
        "write_tensors(path, {'a': torch.arange(99999.0)}, {'key': 'word'})\n"
        "tensors, metadata = read_tensors(path)\n"
        "assert metadata == {'key': 'word'}\n"
        "open(path, 'w').close()  # as cp does, before it writes another\n"
        "assert torch.equal(tensors['a'], torch.arange(99999.0))\n"
    )
    done = forked.run("-c", script, tmp_path / "a.safetensors")
    assert done.returncode == 0, done.stderr


def test_equal_tensors_and_metadata_make_equal_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "from seenn.files import write_tensors\n"
        "words = {f'key {n}': 'é\\n\\x01' + '{\"a\": 1}' * n for n in range(9)}\n"
        "write_tensors(sys.argv[1], {'b': torch.ones(3), 'a': torch.zeros(2, 2)}, words)\n"
    )
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path in paths:
        subprocess.run([sys.executable, "-c", script, path], check=True)
    assert len({path.read_bytes() for path in paths}) == 1
    with safe_open(paths[0], framework="pt") as file:
        assert file.metadata() == {f"key {n}": "é\n\x01" + '{"a": 1}' * n for n in range(9)}
        assert file.get_tensor("b").tolist() == [1, 1, 1]
