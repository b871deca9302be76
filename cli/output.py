"""What a command may write: never what it reads, nor a file that its name says is another kind."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cli.options import FOLDER, OutputFolder
from seenn.data.registry import DATA_SETS
from seenn.errors import OutputError
from seenn.files import check_output, refuse_other_kind

log = logging.getLogger(__name__)

_OUTPUTS = ("output", "write_config")
_MODELS = ("model", "ann")  # names of a library, unless they have the ending of a file
_OF_WEIGHTS = ("snn", "ckpt", *_MODELS)  # what these name may be a folder, of which any file may be read
_FOLDER_OF_MODEL = "local-dir"


def output_file(
    path: str, *, updates: str | None = None, kind: str | None = ".safetensors", replaces: bool = True
) -> Path:
    """An output path that can be written, checked before any work; never an input, nor another kind of file.

    Any name without one of the endings of other kinds will do. Says so where a file is replaced.

    Args:
        path: as typed.
        updates: the input that is written anew, which is no loss.
        kind: the ending of what is written; None: any.
        replaces: whether a file that is there is replaced.
    """
    try:
        target = check_output(path)
        refuse_input(path, updates=updates)
        if kind is not None:
            refuse_other_kind(path, kind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-o") from error
    if replaces and target.exists() and not (updates and _real(path) == _real(updates)):
        log.warning("%s is there already: it is replaced in the end", path)
    return target


def output_folder(path: str) -> Path:
    """A folder that can be written or made, and is no input; checked before any work."""
    try:
        refuse_input(path)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="-o") from error
    return Path(OutputFolder().convert(path, None, None))


class ReportFolder(OutputFolder):
    """A folder that a report can be written into: without files of other programs that it would replace."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from seenn.analysis.report.folder import foreign_files

        target = super().convert(value, param, ctx)
        if found := foreign_files(target):
            self.fail(found, param, ctx)
        return target


@contextmanager
def beside(target: Path) -> Iterator[None]:
    """Around what is written beside ``target``, after it: where that fails, the error says that the target is whole."""
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{error}; {target} is written and whole: use it as it is") from error


def refuse_input(path: str, *, updates: str | None = None) -> None:
    """Refuses a file or folder that an option or argument of the running command names, in whatever spelling.

    Raises:
        ValueError: it does.
    """
    target = _real(path)
    if not target.exists() or (updates is not None and target == _real(updates)):
        return
    for parameter, text in _texts():
        option, weights = _shown(parameter), parameter.name in _OF_WEIGHTS
        for name, may_be_folder in _places(parameter, text):
            found = _real(name)
            if found == target and (may_be_folder or not target.is_dir()):
                raise ValueError(f"{path} is the input of {option}, which would be lost: name another")
            if weights and may_be_folder and target.is_relative_to(found):
                raise ValueError(f"{path} is a file of {name}, the input of {option}, and would be lost: name another")


def _texts() -> Iterator[tuple[click.Parameter, str]]:
    """Each text that the running command was given, and for which option; one of a choice names no file."""
    context = click.get_current_context(silent=True)
    for parameter in () if context is None else context.command.params:
        if parameter.name in _OUTPUTS or parameter.type is FOLDER:
            continue
        if not isinstance(parameter.type, click.Path | click.types.StringParamType):
            continue
        given = context.params.get(parameter.name or "") if context else None
        for text in given if isinstance(given, tuple) else (given,):
            if isinstance(text, str):
                yield parameter, text


def _places(parameter: click.Parameter, text: str) -> Iterator[tuple[str, bool]]:
    """What of a text may be the path of a file, and whether it may be that of a folder as well.

    A folder that is called like a model, a data set or any other word is none of the command's inputs.
    """
    prefix, _, rest = text.partition(":")
    is_data, is_model = parameter.name == "data", parameter.name in _MODELS
    if rest:
        yield rest, is_data or prefix == _FOLDER_OF_MODEL
    if not (is_data and text in DATA_SETS) and not (is_model and not Path(text).suffix):
        yield text, is_data or isinstance(parameter, click.Argument) or isinstance(parameter.type, click.Path)
    for part in filter(None, re.split("[:=,]", text)):
        if part not in (text, rest):
            yield part, False


def _shown(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else (parameter.name or "").upper()


def _real(path: str) -> Path:
    return Path(os.path.realpath(os.path.expanduser(path)))
