"""Writes down every error message that tests raise, with the place that raises it: ``pytest --messages FILE``.

``python benchmarks/messages.py`` makes docs/messages.md of it. Processes that tests start are not listened to.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from seenn.errors import SeennError

ROOT = Path(__file__).parents[1]
PACKAGES = ("seenn", "converter", "cli")
TEMPORARY = re.compile(r"[^\s'\"]*/pytest-of-\w+/pytest-\d+/(popen-gw\d+/)?[^/\s'\"]+/?")


def listen() -> list[str]:
    """From now on, every ``SeennError`` and every usage error that is made is a JSON line of what is returned."""
    heard: list[str] = []

    def note(error: Exception, text: str, frame: FrameType | None) -> None:
        place = _place(frame)
        if place is not None:
            kind = "UsageError" if isinstance(error, click.UsageError) else type(error).__name__
            quoted = sys.exc_info()[1]
            if vars(quoted or error).get("heard") in heard and str(quoted) in text:  # a part of this message
                heard.remove(vars(quoted)["heard"])
            line = json.dumps({"place": place, "kind": kind, "message": TEMPORARY.sub("", text)}) + "\n"
            vars(error)["heard"] = line
            heard.append(line)

    def made(self: SeennError, *given: Any) -> None:
        super(SeennError, self).__init__(*given)
        note(self, str(self), sys._getframe(1))

    plain = click.UsageError.__init__

    def misused(self: click.UsageError, message: str, ctx: click.Context | None = None) -> None:
        plain(self, message, ctx)
        traceback = sys.exc_info()[2]  # of the library's ValueError that becomes wrong usage
        frame: FrameType | None = sys._getframe(1)
        while traceback is not None:
            frame, traceback = traceback.tb_frame, traceback.tb_next
        note(self, message, frame)

    SeennError.__init__ = made  # type: ignore[method-assign]
    click.UsageError.__init__ = misused  # type: ignore[method-assign]
    return heard


def _place(frame: FrameType | None) -> str | None:
    """``seenn/files.py:88``, the line of the project that made the error; None where a test or a library did."""
    while frame is not None and (frame.f_code.co_filename.startswith("<") or "/click/" in frame.f_code.co_filename):
        frame = frame.f_back  # of dataclasses, and of click's own classes
    path = None if frame is None else Path(frame.f_code.co_filename)
    if frame is None or path is None or not path.is_relative_to(ROOT):
        return None
    inside = path.relative_to(ROOT)
    return f"{inside}:{frame.f_lineno}" if inside.parts[0] in PACKAGES else None
