"""What every command shares: options, talk on stderr, one JSON object on stdout, errors as one line."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cli.config import read_config, write_config
from cli.errors import failures, usage
from cli.interrupt import ctrl_c_ends_at_once
from cli.options import FILE, OutputFolder, collect, import_plugins, option, parameters
from cli.output import refuse_input

if TYPE_CHECKING:
    import torch

    from seenn.runtime import Engine


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
    quiet: bool = False

    def say(self, text: str) -> None:
        """One line of talk on stderr."""
        if self.first and not self.quiet:
            click.echo(text, err=True)

    def answer(self, result: dict[str, Any], *parts: str, engine: Engine | None = None) -> None:
        """The result on stdout: as one JSON object with ``--json``, which also names the engine, else as text."""
        if engine is not None:
            result = {**result, "engine": {"name": engine.name, "exact": engine.exact, "note": engine.note}}
        if self.first:
            click.echo(json.dumps(result, indent=2, allow_nan=False) if self.json else "\n".join(parts))

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int | None], None]]:
        """A progress bar on stderr; call it with ``(done, total)``, None where nobody knows how many will come."""
        import rich.console
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(elapsed_when_finished=False),
        )
        screen = rich.console.Console(stderr=True, highlight=False, quiet=self.quiet or not self.first)
        with progress.Progress(*columns, console=screen, transient=False) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every command takes."""

    plugin: tuple[str, ...] = option(
        "Import this module, which adds rules, engines, data sets or neurons of your own; runs its code.",
        metavar="MODULE",
        is_eager=True,
        callback=lambda context, parameter, modules: import_plugins(*modules),
    )
    as_json: bool = option("Print one JSON object on stdout.", name="--json")
    device: str = option("Where to compute.", metavar="cpu|cuda|mps|auto", default="auto")
    seed: int = option("Seed of everything random.", type=click.IntRange(0, 2**32 - 1), default=0)
    quiet: bool = option("Only the answer, warnings and errors.", short="-q")
    verbose: bool = option("Also what is only of interest where something is odd.", short="-v")
    config: str | None = option(
        "Options from the command's table in this TOML file; what is typed wins.",
        type=FILE,
        is_eager=True,
        callback=lambda context, parameter, path: read_config(context, path),
    )
    write_config: str | None = option("Write the options that are given there, and do nothing else.", type=FILE)

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise ValueError("--quiet and --verbose contradict each other: give one")


def command(short_help: str) -> Callable[[Callable[..., None]], click.Command]:
    """Decorator of every command: its options, seeding, and the errors that seenn raises on purpose.

    The function receives a ``Console``, and one value of each group of options that its signature names.
    """

    def make(function: Callable[..., None]) -> click.Command:
        _, *named = inspect.signature(function, eval_str=True).parameters.values()
        groups = {parameter.name: parameter.annotation for parameter in named}

        @functools.wraps(function)
        def run(**values: Any) -> None:
            with usage():
                common = collect(CommonOptions, values)
                given = {name: collect(group, values) for name, group in groups.items()}
                for parameter in made.params:
                    if isinstance(parameter.type, OutputFolder):
                        refuse_input(values[parameter.name or ""])
            logging.basicConfig(level=logging.WARNING, handlers=[Talk()])
            if common.verbose:
                for package in ("seenn", "converter"):
                    logging.getLogger(package).setLevel(logging.DEBUG)
            if common.write_config is not None:
                with failures(), usage():
                    write_config(click.get_current_context(), common.write_config)
                click.echo(f"wrote {common.write_config}; run it with --config {common.write_config}", err=True)
                return
            with failures():
                with ctrl_c_ends_at_once():
                    import torch

                    from seenn.device import resolve_device
                    from seenn.distributed import joined, own_device

                with usage():
                    device = own_device(resolve_device(common.device))
                torch.manual_seed(common.seed)
                with joined(device) as here:
                    console = Console(
                        json=common.as_json,
                        device=device,
                        seed=common.seed,
                        first=here.first,
                        quiet=common.quiet,
                    )
                    function(console, **given)

        made = click.command(short_help=short_help)(run)
        made.params = [p for group in (*groups.values(), CommonOptions) for p in parameters(group)]
        return made

    return make


def text_table(columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> str:
    """Rows in columns as wide as they need to be, below their underlined names; None is left empty.

    Args:
        columns: the format of each, by name: "" is text, every other aligns to the right.
    """
    formats = list(columns.values())
    cells = table_cells(columns, rows)
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [
        "  ".join(f"{cell:{'>' if how else '<'}{width}}" for cell, how, width in zip(row, formats, widths, strict=True))
        for row in ([*columns], ["-" * width for width in widths], *cells)
    ]
    return "\n".join(line.rstrip() for line in lines)


def table_cells(columns: Mapping[str, str], rows: Iterable[Sequence[object]]) -> list[list[str]]:
    """The values in their columns' formats; None is left empty."""
    formats = columns.values()
    return [["" if v is None else format(v, how) for v, how in zip(row, formats, strict=True)] for row in rows]


def command_line() -> str:
    """This invocation, as typed."""
    return " ".join(["seenn", *map(shlex.quote, sys.argv[1:])])
