"""Building the compiled code, and trying it before anything relies on it."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from seenn.native.cache import find, keep, key, warn

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
#: Rounding as torch does it: no multiply-adds but those that are written.
FLAGS = ("-O2", "-ftree-vectorize", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
#: What not every compiler has; tried in this order.
EXTRAS = (("-march=native", "-fopenmp"), ("-fopenmp",), ("-march=native",), ())


class Library(ctypes.CDLL):
    """Compiled code in this process. A copy is the same one, so that what holds it can be copied."""

    def __copy__(self) -> Library:
        return self

    def __deepcopy__(self, memo: object) -> Library:
        return self


@cache
def load(part: Literal["engine", "training"]) -> Library | None:
    """The compiled code for one use; None where there is no compiler, or where it does not do what torch does.

    Code that passed its test is kept (``seenn.native.cache``): a later process loads it, without a compiler and
    without the test, while sources, flags, compiler, processor, torch and seenn are the same.

    ``CC`` names another compiler than ``cc``, with arguments if need be: ``CC="gcc -m64"``. It is split as a shell
    would, but no shell ever runs it: nothing is expanded, and the first word is a program.
    """
    from seenn.native import cumulative, depthwise, firing, norm, rows, step, sums, unroll

    modules = {"engine": (firing, rows, sums, cumulative, depthwise), "training": (unroll, step, norm)}[part]
    compiler = _compiler()
    if compiler is None:
        return None
    identity = key(_contents(), FLAGS, EXTRAS, compiler, _version(compiler[0]))
    cached = find(part, identity)
    if cached is not None:
        try:
            return Library(str(cached[0]))
        except OSError as error:  # of another C library, or in a folder that nothing may run from
            logger.debug("%s", error)
    sources = [str(FOLDER / f"{module.__name__.rpartition('.')[2]}.c") for module in modules]
    with tempfile.TemporaryDirectory(prefix="seenn-") as folder:
        for number, extras in enumerate(EXTRAS):
            target = Path(folder) / f"{part}{number}.so"
            command = [*compiler, *FLAGS, *extras, *sources, "-o", str(target), "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                library = Library(str(target))
            except (OSError, subprocess.SubprocessError) as error:
                logger.debug("%s: %s", " ".join(command), error)
                continue
            with torch.inference_mode(False), torch.enable_grad():
                same = all(module.matches_torch(library) for module in modules)
            if same:
                keep(part, identity, target.read_bytes())
                return library
            logger.debug("%s: not what torch computes", " ".join(command))
    warn(f"the compiler {shlex.join(compiler)!r} does not work here (CC names another): torch is used, which is slower")
    return None


def _compiler() -> list[str] | None:
    """The compiler's path and its arguments; None where there is none."""
    given = os.environ.get("CC", "")
    try:
        program, *arguments = shlex.split(given) or ["cc"]
    except ValueError as error:
        warn(f"CC={given!r} cannot be read: {error}. torch is used, which is slower")
        return None
    found = shutil.which(program)
    if found is None and given.strip():
        warn(f"CC={given!r}: there is no program {program!r}. torch is used, which is slower")
    return None if found is None else [found, *arguments]


def _version(compiler: str) -> tuple[object, ...]:
    """What changes when the compiler is replaced, found without running it."""
    path = Path(compiler).resolve()
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _contents() -> list[tuple[str, bytes]]:
    """The code that is compiled, and the Python that calls and tests it."""
    paths = [*FOLDER.glob("*.[ch]"), *Path(__file__).parent.glob("*.py")]
    return [(path.name, path.read_bytes()) for path in sorted(paths)]
