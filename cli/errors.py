"""Errors as one line: exit code 1 for what went wrong on purpose, 2 for wrong usage; bugs keep their traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from seenn.errors import ArgumentError, SeennError


class Failure(click.ClickException):
    """Something that went wrong on purpose; ``kind`` names it for programs. Exit code 1."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def failures() -> Iterator[None]:
    """Turns the errors that seenn raises on purpose, and those of the file system, into a ``Failure``.

    An argument that names what does not exist is wrong usage.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except ArgumentError as error:
        raise click.UsageError(str(error), click.get_current_context(silent=True)) from error
    except (SeennError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:  # of no file: a stream
            message = f"cannot write to standard output: {error.strerror}. Make space there, or send it elsewhere"
        raise Failure(type(error).__name__, message) from error


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
        with suppress(OSError):  # of stdout itself: nobody reads it, or its disk is full
            click.echo(json.dumps({"error": {"type": kind, "message": message}}, indent=2))
    click.echo(f"error: {message}", err=True)
