"""The folder of a report: what seenn writes into it, and whether what is there is its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PAGES = "pages.json"  # the blocks of all pages, which report.html shows
HTML = "report.html"
JSON = "report.json"
_OF_OLD = b'"mean_timesteps"'  # in what 0.1 wrote, without pages


def foreign_files(folder: str | os.PathLike[str], names: Iterable[str] = (HTML, JSON)) -> str | None:
    """Why none of these ``names`` may be written into ``folder``, as a clause; None where they may.

    A folder with an earlier report is seenn's own, and what it holds by these names is replaced.
    """
    path = Path(folder)
    there = sorted(name for name in names if (path / name).exists())
    if not there or (path / PAGES).exists() or (not (path / HTML).exists() and _is_old(path / JSON)):
        return None
    return f"{path} has {', '.join(there)}, and no {PAGES} beside it: seenn did not write that; name another folder"


def _is_old(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 1 << 26 and _OF_OLD in path.read_bytes()
