"""Options as typed values: a group is a frozen dataclass whose fields carry their click option.

::

    @dataclass(frozen=True, kw_only=True)
    class DataOptions:
        data: str | None = option("digits, npz:PATH, …", metavar="SPEC")
        download: bool = option("Fetch it.")

A command names its groups in its signature and receives one value of each; the group checks in ``__post_init__`` what
its options get wrong among themselves. The field's type says what click would have to be told: a ``bool`` is a flag, a
``Literal`` a choice, a tuple may be repeated.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from cli.errors import failures
from seenn.registry import Registry, current_folder_importable, load_plugin, unknown

Group = TypeVar("Group")


def option(help: str, *, name: str = "", short: str = "", **attributes: Any) -> Any:
    """A field that an option fills, ``--data-dir`` the field ``data_dir``.

    Args:
        help: what the option does; a default is shown behind it.
        name: of the option, where it is called otherwise.
        short: a letter beside its name, ``-T``.
        attributes: what else ``click.option`` takes.
    """
    metadata = {"name": name, "short": short, "attributes": {"help": help, **attributes}}
    return field(default=attributes.get("default", MISSING), metadata=metadata)


def removed(why: str) -> Any:
    """A flag of an earlier version, which is wrong usage now: ``why``, and what to do instead."""

    def refuse(context: click.Context, parameter: click.Parameter, typed: bool) -> bool:
        if typed:
            raise click.UsageError(f"{parameter.opts[0]} {why}", context)
        return typed

    return option("", hidden=True, callback=refuse)


def argument(**attributes: Any) -> Any:
    """A field that an argument fills: what ``click.argument`` takes."""
    return field(default=attributes.get("default", MISSING), metadata={"attributes": attributes})


def parameters(group: type[Any]) -> list[click.Parameter]:
    """The click parameters of a group, in the order of its fields."""
    hints = get_type_hints(group)
    return [_parameter(f.name, hints[f.name], f.metadata) for f in fields(group)]


def collect(group: type[Group], values: Mapping[str, Any]) -> Group:
    """One value of the group from what click parsed."""
    return group(**{f.name: values[f.name] for f in fields(group)})  # type: ignore[arg-type]


def given(group: object, *names: str) -> dict[str, Any]:
    """Those of the options that have a value."""
    return {name: value for name in names if (value := getattr(group, name)) is not None}


def _parameter(name: str, hint: Any, metadata: Mapping[str, Any]) -> click.Parameter:
    attributes: dict[str, Any] = metadata["attributes"]
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
        attributes = {"default": None, **attributes}
    if "help" not in attributes:
        return click.Argument([name], **attributes)
    if get_origin(hint) is Literal:
        attributes = {"type": click.Choice(get_args(hint)), **attributes}
    elif get_origin(hint) is tuple and "type" not in attributes:
        attributes = {"multiple": True, **attributes}
    elif hint is bool:
        attributes = {"is_flag": True, "default": False, **attributes}
    names = [metadata["name"] or f"--{name.replace('_', '-')}", *filter(None, [metadata["short"]]), name]
    default = attributes.get("default")
    shown = not (default is None or default is False or default in ("", ()))
    return click.Option(names, **{"show_default": shown, **attributes})


class Integer(click.IntRange):
    """A range of integers."""

    name = "integer"  # in the help, and in what is said of other values


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, which every comparison lets through, and without infinity."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number: give one.", param, ctx)
        return number


class Ratio(FiniteRange):
    """A number, or one divided by another: 1/255."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        above, slash, below = str(value).partition("/")
        divisor = super().convert(below, param, ctx) if slash else 1.0
        if divisor == 0:
            self.fail(f"{value} divides by zero: give a number.", param, ctx)
        return super().convert(above, param, ctx) / divisor


class OutputFolder(click.ParamType):  # type: ignore[type-arg]
    """A folder that exists and is writable or can be made, checked before any work."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        target = Path(value)
        nearest = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
        if not nearest.is_dir():
            self.fail(f"{nearest} is not a folder: name another", param, ctx)
        if not os.access(nearest, os.W_OK):
            self.fail(f"the folder {nearest} is not writable: name another", param, ctx)
        return str(target)


class Commas(click.ParamType):  # type: ignore[type-arg]
    """Values of one kind, separated by commas: any number of them, or ``count``."""

    name = "list"

    def __init__(self, kind: click.ParamType[Any], count: int | None = None) -> None:
        self.kind, self.count = kind, count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        parts = value.split(",") if isinstance(value, str) and value else value or ()
        if (
            isinstance(value, str)
            and len(numbers := re.split(r"\s*[x×*;\s]\s*", value)) > 1
            and all(re.fullmatch(r"[\d.]+", number) for number in numbers)
        ):
            self.fail(f"{value!r} has no commas: write {','.join(numbers)}.", param, ctx)
        found = tuple(self.kind.convert(part, param, ctx) for part in parts)
        if self.count not in (None, len(found)):
            self.fail(f"{value!r} has {len(found)} values, expected {self.count}.", param, ctx)
        return found


class Place(click.Path):
    """A path; ``~`` is home also where no shell has said so, as in quotes and configuration files."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


FILE, FOLDER, PATH = Place(dir_okay=False), Place(file_okay=False), Place()
COUNT, TIMESTEPS, AT_ONCE = Integer(1), Integer(1, 4096), Integer(1, 1 << 20)
POSITIVE = FiniteRange(0, min_open=True)
SHARE, FRACTION = FiniteRange(0, 1), FiniteRange(0, 1, max_open=True)  # 1 included, and not
PORTION, RATIO = FiniteRange(0, 1, min_open=True), Ratio()
PROBABILITY = FiniteRange(0, 1, min_open=True, max_open=True)


class Registered(click.ParamType):  # type: ignore[type-arg]
    """A name in a registry, of seenn's own, of an installed plugin's or of ``--plugin``'s.

    Args:
        what: one of them in words, for messages.
        package: whose files are seenn's own, so that their names are known without importing anything.
        registry: where the registry is, ``module:NAME``; imported only for a name that is not seenn's own.
        also: names that mean something beside those: ``auto``.
        paths: the deprecated ``package.module:Class`` passes as well, for the name of that class.
    """

    name = "name"

    def __init__(self, what: str, package: str, registry: str, *, also: tuple[str, ...] = (), paths: bool = False):
        self.what, self.registry, self.paths = what, registry, paths
        self.names = (*also, *Registry[Any](what, package).names())  # seenn's own

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.names)}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if self.paths and ":" in value:
            value = self._of_class(value)
        if value in self.names:
            return value
        module, _, name = self.registry.partition(":")
        registry: Registry[Any] = getattr(importlib.import_module(module), name)
        with failures():
            known = value in registry
        if not known:
            self.fail(unknown(self.what, value, {*self.names, *registry.names()}), param, ctx)
        return value

    def _of_class(self, path: str) -> str:
        """What ``package.module:Class`` is registered as."""
        module, _, name = path.partition(":")
        import_plugins(module)
        kind = getattr(getattr(sys.modules[module], name, None), "kind", None)
        if not isinstance(kind, str):
            raise click.BadParameter(f"{path} is not a registered {self.what}: see examples/custom_exit.py")
        click.echo(f"warning: {path} is deprecated here: write --plugin {module}, and {kind} for the name", err=True)
        return kind


def import_plugins(*modules: str) -> None:
    """Imports modules that register something, from the current folder too."""
    with failures(), current_folder_importable():
        for module in modules:
            load_plugin(module)
