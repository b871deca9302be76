"""What every verb shares: options, talk on stderr, one JSON object on stdout, errors as one line."""

from __future__ import annotations

import functools
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.table import Table

    from seenn.checkpoint import Checkpoint

Command = TypeVar("Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Something that went wrong on purpose; ``kind`` names it for programs. Exit code 1."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Talk(logging.Handler):
    """Log records as lines on stderr, wherever a progress bar has put it."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


@dataclass(frozen=True, kw_only=True)
class Session:
    """How this invocation talks: where to compute, with which seed, and in which form to answer."""

    json: bool
    device: torch.device
    seed: int
    first: bool = True  # of the processes that torchrun started: the one that writes and talks

    @property
    def console(self) -> Console:
        """Talk for people, on stderr."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, quiet=not self.first)

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
                from rich.console import Console

                Console(highlight=False).print(part)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar on stderr; call it with ``(done, total)``."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=False) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def verb(function: Command) -> Command:
    """Decorator of every command: the common options, seeding, and the errors that seenn raises on purpose.

    The function receives a ``Session`` first.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
    @click.option("--device", default="auto", show_default=True, metavar="cpu|cuda|mps|auto", help="Where to compute.")
    @click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(0, 2**32 - 1),
        metavar="N",
        help="Seed of everything random.",
    )
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, device: str, seed: int, **kwargs: Any) -> Any:
        logging.basicConfig(level=logging.WARNING, handlers=[Talk()])
        with _failures():
            import torch

            from seenn.device import resolve_device
            from seenn.distributed import joined, own_device

            with usage():
                where = own_device(resolve_device(device))
            torch.manual_seed(seed)
            with joined(where) as here:
                session = Session(json=as_json, device=where, seed=seed, first=here.first)
                return function(session, *args, **kwargs)

    return run  # type: ignore[return-value]


@contextmanager
def _failures() -> Iterator[None]:
    """Turns the errors that seenn raises on purpose into a ``Failure``; bugs keep their traceback."""
    try:
        yield
    except (click.ClickException, BrokenPipeError):
        raise
    except Exception as error:
        from seenn.errors import SeennError

        if not isinstance(error, SeennError | OSError):
            raise
        raise Failure(type(error).__name__, str(error)) from error


@contextmanager
def usage() -> Iterator[None]:
    """Around the parsing of options only: a value that the library refuses is wrong usage, exit code 2."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error), click.get_current_context()) from error


def show_error(kind: str, message: str, *, as_json: bool) -> None:
    """One line on stderr, and with ``--json`` one object on stdout."""
    if as_json:
        click.echo(json.dumps({"error": {"type": kind, "message": message}}, indent=2))
    click.echo(f"error: {message}", err=True)


def read_snn(path: str, *, with_policy: bool = True) -> Checkpoint:
    """The spiking network in a file, with or without its exit policy; says how to make one where there is none.

    Raises:
        CheckpointError: there is no such file, or it is damaged or of another kind.
    """
    from seenn.checkpoint import load
    from seenn.errors import CheckpointError

    if not Path(path).is_file():
        raise CheckpointError(
            f"there is no spiking network {path} here: make it with `seenn convert --model NAME --ckpt FILE` first, "
            "or give the path of another"
        )
    return load(path, with_policy=with_policy)


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
