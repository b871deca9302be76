"""Does what a page says: saves its files, runs its commands and its Python, in order, in this folder.

python tests/tutorial.py docs/tutorials/timm.md

With ``--python`` it runs the Python alone, of a page whose commands are examples and no story.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from cli.main import seenn

BLOCK = re.compile(r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.S | re.M)


def main(page: str, only: str = "") -> None:
    """Stops at the first block that fails."""
    sys.path.insert(0, "")
    names: dict[str, Any] = {"__name__": "__main__"}
    done = 0
    for block in BLOCK.finditer(Path(page).read_text(encoding="utf-8")):
        kind, title, text = block["kind"], block["title"], block["text"]
        if only and kind != only.removeprefix("--"):
            continue
        if title is not None:
            Path(title).write_text(text, encoding="utf-8")
        elif kind == "python":
            exec(compile(text, page, "exec"), names)  # noqa: S102 - what readers type
        elif kind == "sh":
            for line in text.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line, comments=True)
                assert program == "seenn", line
                seenn.main(arguments, standalone_mode=False)
        else:
            raise ValueError(f"{page}: a block of {kind}; expected sh or python")
        done += 1
    print(f"{done} blocks")


if __name__ == "__main__":
    main(*sys.argv[1:])
