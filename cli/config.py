"""Options from a file: ``--config run.toml`` reads them, ``--write-config run.toml`` writes them.

A file has a table for each command, its keys are the options' names::

    [convert]
    model = "resnet18"
    timesteps = 8

What is typed wins over what the file says.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from seenn.errors import did_you_mean
from seenn.files import check_output, write_text

#: What belongs to one invocation, and to no file.
APART = ("config", "write_config", "help")


def read_config(context: click.Context, path: str | None) -> str | None:
    """Makes the options of this command in the file ``path`` its defaults; returns ``path``.

    Raises:
        click.UsageError: the file is no TOML, has no table for this command, or names options that it lacks.
    """
    if path is None:
        return None
    tables = _tables(Path(path), context)
    table, name = tables.get(context.command.name or ""), context.command.name
    if not isinstance(table, dict):
        raise click.UsageError(
            f"{path} has no table [{name}]: it has {', '.join(tables) or 'none'}; add it, or name another file", context
        )
    known = {_key(parameter): parameter for parameter in context.command.params if parameter.name not in APART}
    if unknown := [key for key in table if key not in known]:
        hint = did_you_mean(unknown[0], known)
        raise click.UsageError(f"{path}: [{name}] has no option {unknown[0]!r}.{hint}", context)
    context.default_map = {known[key].name: value for key, value in table.items()}
    return path


def write_config(context: click.Context, path: str) -> None:
    """Writes this command's options that are not the defaults into its table of the file, and leaves the other tables.

    Raises:
        click.UsageError: the file is there and is no TOML.
        ValueError, OutputError: it cannot be written.
    """
    target = check_output(path)
    tables = _tables(target, context) if target.exists() else {}
    chosen = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in APART and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            chosen[_key(parameter)] = context.params[name]
    tables[context.command.name or ""] = chosen
    write_text(target, "\n".join(_lines(tables)) + "\n")


def _key(parameter: click.Parameter) -> str:
    """The option without its dashes; an argument's own name."""
    return max(parameter.opts, key=len).lstrip("-")


def _tables(path: Path, context: click.Context) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a device may have no end, a pipe no beginning
            raise ValueError("not a regular file")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"{path} cannot be read as TOML ({error}): correct it, or name another file", context
        ) from error


def _lines(tables: Mapping[str, Any]) -> list[str]:
    import tomli_w

    return tomli_w.dumps({name: _plain(table) for name, table in tables.items()}).splitlines()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
