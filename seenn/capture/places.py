"""Where in a model's code something happened: its module, its file, and the line."""

from __future__ import annotations

import linecache
import textwrap
import traceback
from pathlib import Path

import torch
from torch import nn

#: Where the code lies that runs models, which is never where a model's own mistake is.
_SEENN, _PYTHON = Path(__file__).parents[1], Path(textwrap.__file__).parent
_RUNNERS = (*map(str, (Path(torch.__file__).parent, _SEENN, _SEENN.parent / "converter")), "<eval_with_key>", "<frozen")
_LONGEST = 80  # of a line that is quoted whole


def place(error: BaseException) -> str:
    """``" at layer, net.py:12 (its line)"``: the innermost module and line of the model's code; "" if none is known."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    modules = [m for frame, _ in frames if isinstance(m := frame.f_locals.get("self"), nn.Module)]
    named = {id(module): name for module in reversed(modules) for name, module in module.named_modules()}
    names = [name for module in modules if (name := named.get(id(module)))]
    found = [name for last in names[-1:] if (name := last.removeprefix("_export_root").lstrip("."))]  # torch.export's
    own = [one for one in traceback.extract_tb(error.__traceback__) if is_own(one.filename)]
    if own:
        one = own[-1]
        end = one.end_colno if one.end_lineno == one.lineno else None
        found.append(where(one.filename, one.lineno or 0, one.colno, end))
    return f" at {', '.join(found)}" if found else ""


def where(filename: str, number: int, start: int | None = None, end: int | None = None) -> str:
    """``"net.py:12 (its line)"``; of a long line the part around two columns, or its start."""
    line = linecache.getline(filename, number).rstrip()
    code = " ".join(line.split())
    if len(code) > _LONGEST:
        indent = len(line) - len(line.lstrip())
        middle = indent if start is None else (start + (len(line) if end is None else end)) // 2
        first = max(indent, min(middle - _LONGEST // 2, len(line) - _LONGEST))
        code = f"{'… ' * (first > indent)}{line[first : first + _LONGEST]}{' …' * (first + _LONGEST < len(line))}"
    return f"{Path(filename).name}:{number}{f' (`{code}`)' if code else ''}"


def is_own(filename: str) -> bool:
    """Whether a file may hold a model: none of torch, of seenn, or of Python."""
    return not filename.startswith(_RUNNERS) and Path(filename).parent != _PYTHON
