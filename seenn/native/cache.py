"""What a later process can use again: compiled code, and what was found out about this machine.

Files lie in ``$SEENN_CACHE``, else ``$XDG_CACHE_HOME/seenn``, else ``~/.cache/seenn``; an empty ``SEENN_CACHE`` turns
this off. Loading compiled code runs it, so the folder has to be the user's own and writable by nobody else. A file's
name holds the SHA-256 of its bytes: a damaged file is not used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from functools import cache
from pathlib import Path

import torch

from seenn.files import atomic_path
from seenn.version import __version__

logger = logging.getLogger(__name__)

#: Of Linux' list, what tells processors apart: on x86, then on ARM.
_PROCESSOR = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")
_ARM_PROCESSOR = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features")


def folder() -> Path | None:
    """Where the files lie, created if it is missing; None where it is off, not writable or not safe."""
    given, base = os.environ.get("SEENN_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if given == "":
        return None
    try:
        path = Path(given).expanduser() if given else (Path(base) if base else Path.home() / ".cache") / "seenn"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody's home
        logger.debug("nothing is cached: %s", error)
        return None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        warn(f"{path} is not used as a cache: it has to be your own folder, and writable by nobody else (chmod 700)")
        return None
    return path.absolute()


def key(*parts: object) -> str:
    """SHA-256 (hex) of ``parts``, which have an exact ``repr``, and of the machine."""
    return hashlib.sha256(repr((machine(), parts)).encode()).hexdigest()


@cache
def machine() -> str:
    """The processor, torch, and the version of seenn: what decides which numbers compiled code and torch compute."""
    info = cpu_info()
    processor = [info.get(name) for name in (*_PROCESSOR, *_ARM_PROCESSOR)] + [platform.machine(), platform.processor()]
    return repr((processor, torch.__config__.show(), torch.__version__, __version__))


def cpu_info() -> dict[str, str]:
    """The first processor of Linux' list; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def find(name: str, key: str) -> tuple[Path, bytes] | None:
    """The file that was kept under this name and key, and what it holds; None where there is none that is whole."""
    where = folder()
    for path in () if where is None else where.glob(f"{name}-{key}-*"):
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == path.name.rpartition("-")[2]:
                return path, content
            logger.debug("%s is damaged", path)
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.debug("%s: %s", path, error)
    return None


def keep(name: str, key: str, content: bytes) -> None:
    """Writes a file for ``find``, atomically; quietly not where that is impossible."""
    where = folder()
    if where is None:
        return
    try:
        with atomic_path(where / f"{name}-{key}-{hashlib.sha256(content).hexdigest()}") as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        logger.debug("%s is not cached: %s", name, error)


@cache
def warn(text: str) -> None:
    """Logs a warning, once in a process."""
    logger.warning(text)
