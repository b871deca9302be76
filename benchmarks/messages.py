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
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from seenn.analysis.report.text import markdown_cell, markdown_table
from seenn.files import write_text

ROOT = Path(__file__).parents[1]
PACKAGES = ("seenn", "converter", "cli")
BAR = 40  # words

#: What a next step begins with.
VERBS = """add allow ask bring build calibrate call cast change check choose clip compute convert copy correct crop cut
divide draw drop evaluate export fetch fit flatten freeze give go hold install keep learn leave let load log look lower
make mend merge move name pad pass pick pip please pool prepare put quantise raise re-save read register remove rename
repeat replace report resample resize return run save say scale see set simplify slice start state store take trace
train transpose try turn update use wait wrap write"""
STEPS = re.compile(
    r"\b(expected|must|in the range|did you mean)\b|\bis (a|an|one) .*, got\b|--\w|\w+ (it )?again\b"
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


def written() -> dict[str, str]:
    """What the code writes of every error of the project's own, and of every call that it refuses, by its place.

    What is only known when it is raised is ``…``: values, and messages of other places that are passed on.
    """
    files = {
        path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    tree = files[Path("seenn/errors.py")]
    kinds = {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | {"Refused", "UsageError"}
    constants = {name: value for tree in files.values() for name, value in _named(tree) if name.isupper()}
    return {
        f"{path}:{node.lineno}": ": ".join(_said(part, constants | dict(_named(tree))) for part in node.exc.args)
        for path, tree in files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and ast.unparse(node.exc.func).rpartition(".")[2] in kinds
    }


def _named(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _said(node: ast.AST, names: Mapping[str, ast.expr]) -> str:
    """The words in an expression; of a name, those in what it was given."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name) and node.id in names:
        return _said(names[node.id], {name: value for name, value in names.items() if name != node.id})
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("did_you_mean", "unknown"):
        return " Did you mean …"
    if isinstance(
        node, ast.JoinedStr | ast.FormattedValue | ast.BinOp | ast.Subscript | ast.IfExp | ast.Tuple | ast.Dict
    ):
        return "".join(_said(part, names) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
    return "…"


def lacks_step(message: str) -> bool:
    """Whether nothing in it says what to do; of one that passes another on, or is made of parts, nothing is known."""
    return not STEPS.search(message) and not message.rstrip(" \n").endswith("…")


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
            f"project's own kinds; the code has {len(written())} places that raise one or refuse a call.",
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
    without = [each for each in messages if lacks_step(each["message"])]
    for each in without:
        click.echo(f"{each['place']}: {each['message']}")
    click.echo(f"{len(messages)} messages, median {median:g} words, {len(without)} without a next step")
    if median > BAR or without:
        raise click.ClickException(f"expected a median of at most {BAR} words, and a next step in each")


if __name__ == "__main__":
    main()
