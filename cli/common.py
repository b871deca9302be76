"""What every verb shares: options, talk on stderr, one JSON object on stdout, errors as one line."""

from __future__ import annotations

import functools
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import torch
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

SNN_FILE = "snn.safetensors"


@dataclass(frozen=True, kw_only=True)
class Session:
    """How this invocation talks: where to compute, with which seed, and in which form to answer."""

    json: bool
    device_name: str
    seed: int

    @property
    def device(self) -> torch.device:
        """The chosen device; a wrong name is a usage error."""
        from seenn.device import resolve_device

        try:
            return resolve_device(self.device_name)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--device") from error

    @property
    def console(self) -> Console:
        """Talk for people, on stderr."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line of talk on stderr."""
        self.console.print(text, markup=False, soft_wrap=True)

    def answer(self, result: dict[str, Any], text: Any = None) -> None:
        """The result on stdout: as one JSON object with ``--json``, else ``text`` (a string or a rich table)."""
        if self.json:
            click.echo(json.dumps(result, indent=2, allow_nan=False))
        elif text is not None:
            from rich.console import Console

            Console(highlight=False).print(text, markup=False) if isinstance(text, str) else Console().print(text)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar on stderr; call it with ``(done, total)``."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=False) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def verb(function: Command) -> Command:
    """Decorator of every command: the common options, seeding, and errors as one clear line.

    The function receives a ``Session`` first.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
    @click.option("--device", default="auto", show_default=True, metavar="cpu|cuda|mps|auto", help="Where to compute.")
    @click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of everything random.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, device: str, seed: int, **kwargs: Any) -> Any:
        logging.basicConfig(level=logging.WARNING, format="warning: %(message)s", stream=sys.stderr)
        session = Session(json=as_json, device_name=device, seed=seed)
        with _clear_errors(session):
            import torch

            torch.manual_seed(seed)
            return function(session, *args, **kwargs)

    return run  # type: ignore[return-value]


@contextmanager
def _clear_errors(session: Session) -> Iterator[None]:
    """Turns the errors that seenn raises on purpose into one line and an exit code; bugs keep their traceback."""
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        from seenn.errors import SeennError

        if not isinstance(error, SeennError | OSError):
            raise
        if session.json:
            click.echo(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}, indent=2))
        click.echo(f"error: {error}", err=True)
        raise click.exceptions.Exit(1) from error


@contextmanager
def usage() -> Iterator[None]:
    """Around the parsing of options only: a value that the library refuses is wrong usage, exit code 2."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from error


def data_options(function: Command) -> Command:
    """``--data``, ``--data-dir``, ``--download``, ``--split-seed``."""
    for option in reversed(
        (
            click.option("--data", metavar="SPEC", help="digits (default), fashion-mnist, mnist, cifar10, cifar100, "
                         "imagefolder:PATH or npz:PATH."),
            click.option("--data-dir", type=click.Path(file_okay=False), help="Folder with the data set's files."),
            click.option("--download", is_flag=True, help="Fetch a named data set into --data-dir."),
            click.option("--split-seed", type=click.IntRange(min=0), help="Deals held-out images to calibration and "
                         "exit.  [default: 0]"),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def model_options(function: Command) -> Command:
    """``--model-kwargs``, ``--stem``, ``--num-classes``, ``--in-chans``, ``--pretrained``."""
    for option in reversed(
        (
            click.option("--model-kwargs", multiple=True, metavar="KEY=VALUE,…", help="Passed to the model's factory, "
                         "for example channels=(32,64,128,256)."),
            click.option("--stem", type=click.Choice(["auto", "imagenet", "cifar"]), default="auto", show_default=True,
                         help="cifar: 3×3 stride-1 convolution and no max-pool; auto: by the checkpoint's shapes or "
                         "the image size."),
            click.option("--num-classes", type=click.IntRange(min=1), help="Classes; inferred when not given."),
            click.option("--in-chans", type=click.IntRange(min=1), help="Image channels; inferred when not given."),
            click.option("--pretrained", is_flag=True, help="Download the library's trained weights."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def output_file(path: str) -> Path:
    """An output path whose folder must exist and be writable, checked before any work."""
    import os

    target = Path(path)
    if not target.parent.is_dir():
        raise click.BadParameter(f"the folder {target.parent} does not exist", param_hint="-o")
    if target.is_dir():
        raise click.BadParameter(f"{target} is a folder", param_hint="-o")
    if not os.access(target.parent, os.W_OK):
        raise click.BadParameter(f"the folder {target.parent} is not writable", param_hint="-o")
    return target


def command_line() -> str:
    """This invocation, as typed."""
    return " ".join(["seenn", *map(shlex.quote, sys.argv[1:])])
