"""docs/messages.md: every error message that the tests raise, how long it is, and whether it says what to do next.

make messages
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from seenn.analysis.report.text import markdown_cell, markdown_table
from seenn.files import write_text

ROOT = Path(__file__).parents[1]
PACKAGES = ("seenn", "converter", "cli")
BAR = 40  # words

#: What a next step begins with.
VERBS = """add allow ask bring build calibrate call change check choose convert copy correct crop divide draw drop
evaluate export
fetch fit give go hold install keep leave load look lower make mend merge move name pass pip prepare put
raise re-save read remove repeat replace report resize return run save say see set simplify slice start state store
take trace train try turn update use wait wrap write"""
STEPS = re.compile(
    r"\b(expected|must|in the range|did you mean)\b|--\w|\w+ (it )?again\b"
    rf"|(^|[:;.,—] |\b(or|and|to) )({'|'.join(VERBS.split())})\b",
    re.IGNORECASE,
)

Message = dict[str, str]  # place, kind, message


def heard(file: Path) -> list[Message]:
    """One message a place, the shortest that was heard from there, in the order of the places."""
    found: dict[str, Message] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        message: Message = json.loads(line)
        before = found.get(message["place"])
        if before is None or (len(message["message"]), message["message"]) < (
            len(before["message"]),
            before["message"],
        ):
            found[message["place"]] = message
    return sorted(found.values(), key=lambda each: (each["place"].split(":")[0], int(each["place"].split(":")[1])))


def places() -> int:
    """How many ``raise`` statements of the project make an error of its own."""
    tree = ast.parse((ROOT / "seenn" / "errors.py").read_text(encoding="utf-8"))
    kinds = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return sum(
        isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in kinds
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def page(messages: list[Message]) -> str:
    """The page, in Markdown."""
    words = [len(each["message"].split()) for each in messages]
    named = sum(each["kind"] != "UsageError" for each in messages)
    rows = [
        (each["kind"], each["place"].split(":")[0], markdown_cell(" ".join(each["message"].split())))
        for each in messages
    ]
    return "\n\n".join(
        [
            "# What seenn says when something is wrong",
            "Made by `make messages` from the tests that raise them; of each place in the code, the shortest that was "
            f"heard. {len(rows)} messages, of a median of {statistics.median(words):g} words; {named} are of the "
            f"project's own kinds, which are raised at {places()} places.",
            "Exit codes: 2 for a `UsageError`, 1 for every other. The tree of kinds stands in `seenn/errors.py`.",
            markdown_table(("kind", "raised in", "message"), rows),
        ]
    )


@click.command()
@click.option("--heard", "file", type=click.Path(exists=True), help="What `pytest --messages` wrote; else tests run.")
@click.option("--out", default=str(ROOT / "docs" / "messages.md"), show_default=True)
@click.argument("tests", nargs=-1)
def main(file: str | None, out: str, tests: tuple[str, ...]) -> None:
    """Writes the page, and names the messages that say no next step."""
    with tempfile.TemporaryDirectory() as folder:
        if file is None:
            file = str(Path(folder) / "messages.jsonl")
            command = [sys.executable, "-m", "pytest", "--messages", file, *(tests or ["tests/unit"])]
            subprocess.run(command, cwd=ROOT, check=True)
        messages = heard(Path(file))
    write_text(out, page(messages) + "\n")
    median = statistics.median(len(each["message"].split()) for each in messages)
    without = [each for each in messages if not STEPS.search(each["message"])]
    for each in without:
        click.echo(f"{each['place']}: {each['message']}")
    click.echo(f"{len(messages)} messages, median {median:g} words, {len(without)} without a next step")
    if median > BAR or without:
        raise click.ClickException(f"expected a median of at most {BAR} words, and a next step in each")


if __name__ == "__main__":
    main()
