"""``seenn doctor``: what this machine offers, and what seenn makes of it."""

from __future__ import annotations

from cli.common import Console, command, text_table


@command("Versions, CPU, compiler, engines, caches, GPU.")
def doctor(console: Console) -> None:
    """Say what this machine has that decides how fast seenn runs, and what is missing."""
    from seenn.analysis.doctor import examine

    found = examine()
    rows = [(line.what, "" if line.ok is None else "ok" if line.ok else "MISSING", line.found) for line in found]
    result = {line.what: {"found": line.found, "ok": line.ok} for line in found}
    advice = [f"{line.what}: {line.advice}" for line in found if line.advice and line.ok is False]
    console.answer(result, text_table({"what": "", "state": "", "found": ""}, rows), *advice)
