"""Building the compiled code, and trying it before anything relies on it."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
#: Rounding as torch does it: no multiply-adds but those that are written.
FLAGS = ("-O2", "-ftree-vectorize", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
#: What not every compiler has; tried in this order.
EXTRAS = (("-march=native", "-fopenmp"), ("-fopenmp",), ("-march=native",), ())


@cache
def load(part: Literal["engine", "training"]) -> ctypes.CDLL | None:
    """The compiled code for one use; None where there is no compiler, or where it does not do what torch does."""
    from seenn.native import firing, norm, rows, step, unroll

    modules = {"engine": (firing, rows), "training": (unroll, step, norm)}[part]
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    sources = [str(FOLDER / f"{module.__name__.rpartition('.')[2]}.c") for module in modules]
    with tempfile.TemporaryDirectory(prefix="seenn-") as folder:
        for number, extras in enumerate(EXTRAS):
            target = Path(folder) / f"{part}{number}.so"
            command = [compiler, *FLAGS, *extras, *sources, "-o", str(target), "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                library = ctypes.CDLL(str(target))
            except (OSError, subprocess.SubprocessError) as error:
                logger.debug("%s: %s", " ".join(command), error)
                continue
            if all(module.does_what_torch_does(library) for module in modules):
                return library
            logger.debug("%s: not what torch computes", " ".join(command))
    return None
