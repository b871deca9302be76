"""Writing files so that nobody ever finds half of one, and no writer undoes the work of another.

What a process that was killed leaves behind is told from what a living one is writing by a lock (``flock``), which the
kernel releases with the process. Where the system or the file system has no such locks, nothing is cleaned or refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seenn.errors import CheckpointError, FileNameError, OutputError, SeennError, first_line

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # there is none on Windows

PathLike = str | os.PathLike[str]


_LENGTH = 8  # bytes of the length with which a safetensors file begins
FileVersion = tuple[int, ...]  # what tells a file from what another process writes in its place


def version_of(path: PathLike) -> FileVersion:
    """The version of the file that is there now; take it before reading, and give it to :func:`atomic_path`.

    Raises:
        OSError: there is no such file.
    """
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass
class Origin:
    """The file that something was read from, as it was then, or was written again since; and by which name."""

    path: Path
    name: Path  # a link to it, or the same
    version: FileVersion

    @classmethod
    def of(cls, path: PathLike) -> Origin | None:
        """Of the file that is there now; None where there is none."""
        real = Path(os.path.realpath(path))
        return cls(real, Path(os.path.abspath(path)), version_of(real)) if real.is_file() else None

    def is_at(self, path: PathLike) -> bool:
        """Whether ``path`` leads to this file, or did when it was read."""
        return Path(os.path.realpath(path)) == self.path or Path(os.path.abspath(path)) == self.name


@contextmanager
def atomic_path(target: PathLike, expected: FileVersion | None = None) -> Iterator[Path]:
    """Yields a temporary path on the disk of ``target``; on success it becomes ``target``.

    Any exception (a full disk, an interrupt) removes the temporary file and leaves an older ``target`` as it was. The
    data reaches the disk before the rename. A symbolic link stays one: the file it points to is written. The file
    gets the permissions that any new file gets, or keeps those of the older one.

    Args:
        target: a file, there or not yet.
        expected: the version that the new content was made from; None replaces any.

    Raises:
        OutputError: there is no such folder, it is not writable or full, or ``target`` is no regular file.
        CheckpointError: ``target`` is not the ``expected`` version any more.
    """
    path = Path(os.path.realpath(target))
    with writing(target):
        _refuse_obstacle(target)
        with _private_folder(path) as folder:
            temporary = folder / path.name
            temporary.touch()
            mode = (path if path.exists() else temporary).stat().st_mode
            yield temporary
            temporary.chmod(stat.S_IMODE(mode))  # a library that writes the file may choose its own
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            with locked(path.parent, wait=True):
                _refuse_obstacle(target)
                if expected is not None and (not path.exists() or version_of(path) != expected):
                    raise CheckpointError(
                        f"{os.fspath(target)} changed since it was read; nothing was written: run the command again "
                        "(in Python, load it again or save(..., overwrite=True))"
                    )
                os.replace(temporary, path)


@contextmanager
def atomic_folder(target: PathLike) -> Iterator[Path]:
    """Yields a temporary folder on the disk of ``target``; on success ``target`` has its files.

    Any exception leaves ``target`` as it was. A folder that is there keeps its other files, and the temporary one is
    made in it: the folder around it may be another disk's, or not writable.

    Raises:
        OutputError: the parent is no folder, is not writable or full, or ``target`` is a file.
    """
    path = Path(os.path.realpath(target))
    with writing(target):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{os.fspath(target)} is a file, and a folder is to be written: name another")
        place = path / path.name if path.exists() else path
        with _private_folder(place) as folder:
            temporary = folder / place.name
            temporary.mkdir()
            try:
                yield temporary
            except OutputError as error:  # about a file in it, by a name that nobody gave
                raise error.__cause__ or error from None
            for file in temporary.iterdir():
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
            with locked(place.parent, wait=True):
                if not path.exists():
                    os.replace(temporary, path)
                    return
                for file in temporary.iterdir():
                    os.replace(file, path / file.name)


def write_text(target: PathLike, text: str) -> None:
    """Writes ``text`` as UTF-8, atomically; raises as :func:`atomic_path`."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(target: PathLike, tensors: Mapping[str, Any], metadata: Mapping[str, str], **options: Any) -> None:
    """Writes a ``.safetensors`` file, atomically; equal tensors and metadata make equal bytes.

    safetensors itself puts metadata in another order in every process. ``options`` and errors are those of
    :func:`atomic_path`.
    """
    from safetensors.torch import save_file

    with atomic_path(target, **options) as temporary:
        save_file(dict(tensors), temporary, dict(metadata))
        with temporary.open("r+b") as file:
            length = int.from_bytes(file.read(_LENGTH), "little")
            header = json.loads(file.read(length))
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            sorted_header = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
            if len(sorted_header) != length:
                raise OutputError(f"{target}: safetensors writes another JSON than expected: report this")
            file.seek(_LENGTH)
            file.write(sorted_header)


def read_tensors(path: PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors and the metadata of a ``.safetensors`` file, in memory of their own.

    What the library returns are views of the file: they change, or end the process, when another writes into it.

    Raises:
        OSError, SafetensorError, ValueError, RuntimeError: it cannot be read.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def stand_in(path: PathLike) -> str | None:
    """What a file is that came in the place of the one that was meant, and what to do; None of any other."""
    with open(path, "rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the file itself: download it again, by the link of the raw file"
    return None


def make_folder(path: PathLike) -> Path:
    """The folder ``path``, made where it is not there, its parents too.

    Raises:
        OutputError: it cannot be made, or is a file.
    """
    with writing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def check_output(path: PathLike) -> Path:
    """``path``, to be called before any work: :func:`atomic_path` could write it.

    Raises:
        ValueError: its folder does not exist or is not writable, or it is no regular file.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise ValueError(
            f"the folder {real.parent if os.path.islink(path) else Path(path).parent} does not exist: make it first"
        )
    if obstacle := _obstacle(path):
        raise ValueError(f"{os.fspath(path)} {obstacle}: name another file")
    if not os.access(real.parent, os.W_OK):
        raise ValueError(f"the folder {Path(path).parent} is not writable: name a file in another")
    return Path(path)


#: Endings that promise another kind of file than a program may be about to write.
KINDS = frozenset([
    ".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".onnx", ".nir", ".h5", ".hdf5",
    ".keras", ".tflite", ".pb", ".npz", ".npy", ".mat", ".parquet", ".csv", ".tsv", ".xls", ".xlsx",
    ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z", ".zip",
    ".py", ".pyi", ".ipynb", ".so", ".pyd", ".dll", ".c", ".cc", ".cpp", ".h", ".cu", ".js", ".sh", ".bat",
    ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".xml", ".txt", ".names", ".log", ".md", ".rst",
    ".tex", ".html", ".htm", ".css", ".pdf", ".svg", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".tif",
    ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".dcm", ".nii", ".mp4", ".avi", ".wav",
])  # fmt: skip


def refuse_other_kind(path: PathLike, kind: str) -> None:
    """Raises FileNameError where the name promises another kind of file than ``kind``, such as ``.safetensors``."""
    suffix = Path(path).suffix.lower()
    if suffix != kind and suffix in KINDS:
        raise FileNameError(f"what is written is a {kind} file, and {os.fspath(path)} says {suffix}: name it …{kind}")


@contextmanager
def writing(target: PathLike) -> Iterator[None]:
    """Around anything that writes ``target``: whatever fails for want of space or permission is an OutputError."""
    try:
        yield
    except SeennError:
        raise
    except Exception as error:
        from safetensors import SafetensorError

        torch_writer = isinstance(error, RuntimeError) and "inline_container" in str(error)
        if not (torch_writer or isinstance(error, OSError | SafetensorError)):
            raise
        path = Path(os.path.realpath(target))
        if not path.parent.is_dir():
            reason, left = f"the folder {path.parent} does not exist", "Nothing was written"
        else:
            reason = "not all of it could be written; the disk may be full" if torch_writer else _reason(error)
            left = "What was there before is intact" if path.exists() else "No part of it was left behind"
        raise OutputError(
            f"cannot write {os.fspath(target)}: {reason}. {left}. Check that the folder exists, is writable and has "
            "space, then try again"
        ) from error


@contextmanager
def locked(path: PathLike, *, wait: bool = False) -> Iterator[bool | None]:
    """Locks the file or folder ``path`` for this process: True inside, False where another process has it.

    None where there are no such locks. With ``wait`` it comes back when the other lets go.

    Raises:
        OSError: ``path`` cannot be opened.
    """
    if fcntl is None:
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    _descriptors.add(descriptor)
    try:
        held: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = False
        except OSError:
            held = None
        yield held
    finally:
        if descriptor in _descriptors:
            _descriptors.remove(descriptor)
            with suppress(OSError):  # where there are no such locks
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked just now may have it still
            os.close(descriptor)


_descriptors: set[int] = set()  # of the locks that this process holds


def _let_go() -> None:
    """In a forked process: a lock is the parent's alone, and must not outlive it there."""
    while _descriptors:
        os.close(_descriptors.pop())


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go)


def remove_stale(target: PathLike) -> None:
    """Removes what writers of ``target`` that were killed left beside it; of a living one nothing.

    Raises:
        OSError: there is no such folder.
    """
    path = Path(os.path.realpath(target))
    with locked(path.parent, wait=True):
        _remove_stale(path)


def fingerprint(path: PathLike) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _obstacle(target: PathLike) -> str | None:
    """Why ``target`` must not be replaced by a file, as a clause; None where it may."""
    try:
        mode = os.stat(target).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"cannot be written: {_reason(error)}"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file"
    return None if stat.S_ISREG(mode) else "is a device or a pipe, not a regular file"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _refuse_obstacle(target: PathLike) -> None:
    if obstacle := _obstacle(target):
        raise OutputError(f"{os.fspath(target)} {obstacle}; nothing was written: name another file")


@contextmanager
def _private_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, locked while it is used: libraries leave temporary files of their own in it."""
    folder = path.with_name(f"{_temporary_start(path)}{secrets.token_hex(4)}.tmp")
    with ExitStack() as stack:
        with locked(path.parent, wait=True):  # so that nobody takes it for a stale one before it is locked
            _remove_stale(path)
            folder.mkdir()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.enter_context(locked(folder))
        yield folder


def _remove_stale(path: Path) -> None:
    start = _temporary_start(path)
    for other in path.parent.iterdir():
        if other.name.startswith(start) and other.suffix == ".tmp":
            with suppress(OSError), locked(other) as held:  # OSError: it is somebody else's
                if held:
                    shutil.rmtree(other) if other.is_dir() else other.unlink()


def _temporary_start(path: Path) -> str:
    return f".{path.name[:60]}."  # so that a temporary name is no longer than names may be
