"""What every command shares: options, talk on stderr, one JSON object on stdout, errors as one line."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.errors import failures, usage
from cli.options import collect, option, parameters
from seenn.registry import current_folder_importable, load_plugin

if TYPE_CHECKING:
    import torch
    from rich.table import Table


class Talk(logging.Handler):
    """Log records as lines on stderr, wherever a progress bar has put it."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


@dataclass(frozen=True, kw_only=True)
class Console:
    """How this invocation talks: where to compute, with which seed, and in which form to answer."""

    json: bool
    device: torch.device
    seed: int
    first: bool = True  # of the processes that torchrun started: the one that writes and talks

    def say(self, text: str) -> None:
        """One line of talk on stderr."""
        if self.first:
            click.echo(text, err=True)

    def answer(self, result: dict[str, Any], *parts: str | Table) -> None:
        """The result on stdout: as one JSON object with ``--json``, else as text and tables for people."""
        if not self.first:
            return
        if self.json:
            click.echo(json.dumps(result, indent=2, allow_nan=False))
            return
        for part in parts:
            if isinstance(part, str):
                click.echo(part)
            else:
                import rich.console

                rich.console.Console(highlight=False).print(part)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar on stderr; call it with ``(done, total)``."""
        import rich.console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        screen = rich.console.Console(stderr=True, highlight=False, quiet=not self.first)
        with Progress(*columns, console=screen, transient=False) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def load_plugins(context: click.Context, parameter: click.Parameter, modules: tuple[str, ...]) -> tuple[str, ...]:
    """Imports the modules of ``--plugin``, before any name is looked up."""
    with failures(), current_folder_importable():
        for module in modules:
            load_plugin(module)
    return modules


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every command takes."""

    plugin: tuple[str, ...] = option(
        "Import this module, which adds rules, engines, data sets or neurons of your own; runs its code.",
        metavar="MODULE",
        is_eager=True,
        callback=load_plugins,
    )
    as_json: bool = option("Print one JSON object on stdout.", name="--json")
    device: str = option("Where to compute.", metavar="cpu|cuda|mps|auto", default="auto")
    seed: int = option("Seed of everything random.", type=click.IntRange(0, 2**32 - 1), default=0)


def command(short_help: str) -> Callable[[Callable[..., None]], click.Command]:
    """Decorator of every command: its options, seeding, and the errors that seenn raises on purpose.

    The function receives a ``Console``, and one value of each group of options that its signature names.
    """

    def make(function: Callable[..., None]) -> click.Command:
        _, *named = inspect.signature(function, eval_str=True).parameters.values()
        groups = {parameter.name: parameter.annotation for parameter in named}

        @functools.wraps(function)
        def run(**values: Any) -> None:
            logging.basicConfig(level=logging.WARNING, handlers=[Talk()])
            with usage():
                common = collect(CommonOptions, values)
                given = {name: collect(group, values) for name, group in groups.items()}
            with failures():
                import torch

                from seenn.device import resolve_device
                from seenn.distributed import joined, own_device

                with usage():
                    device = own_device(resolve_device(common.device))
                torch.manual_seed(common.seed)
                with joined(device) as here:
                    console = Console(json=common.as_json, device=device, seed=common.seed, first=here.first)
                    function(console, **given)

        made = click.command(short_help=short_help)(run)
        made.params = [p for group in (*groups.values(), CommonOptions) for p in parameters(group)]
        return made

    return make


def text_table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows in columns as wide as they need to be, the first row underlined; columns in ``right`` align right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def command_line() -> str:
    """This invocation, as typed."""
    return " ".join(["seenn", *map(shlex.quote, sys.argv[1:])])
