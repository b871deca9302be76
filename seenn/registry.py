"""Things by name, one file each: exit rules, engines, data sets, recipes, and what plugins add to them.

A registry owns a folder. Every file in it registers one thing under the name of the file (``two_sided.py`` registers
``two-sided``; a final underscore keeps a name from being a keyword, ``if_.py``), so that the names are known without
importing anything. Packages outside register through the entry-point group ``seenn.plugins``, each entry a module to
import, or by ``--plugin MODULE``; a file that is loaded never imports code by itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar

from seenn.errors import PluginError, UnknownNameError, did_you_mean

GROUP = "seenn.plugins"

Thing = TypeVar("Thing")
Registered = TypeVar("Registered")


class Registry(Generic[Thing]):
    """Things of one kind by name.

    Args:
        what: one of them in words, for messages: ``exit rule``.
        package: dotted name of the package whose files they are, ``seenn.exits.rules``.
    """

    def __init__(self, what: str, package: str) -> None:
        self.what = what
        self.package = package
        self._found: dict[str, Thing] = {}

    def names(self) -> tuple[str, ...]:
        """All names, sorted: of the files in the folder, without importing them, and of what was registered."""
        return tuple(sorted({*self._files, *self._found}))

    @cached_property
    def _files(self) -> frozenset[str]:
        """The names that files stand for."""
        top, _, rest = self.package.partition(".")
        spec = importlib.util.find_spec(top)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        folder = Path(spec.submodule_search_locations[0], *rest.split("."))
        return frozenset(_named(path.stem) for path in folder.glob("*.py") if not path.stem.startswith("_"))

    def get(self, name: str) -> Thing:
        """What is registered as ``name``; imports its file.

        Raises:
            UnknownNameError: there is no such thing; the message names the nearest ones.
        """
        if name not in self:
            raise UnknownNameError(unknown(self.what, name, self.names()))
        if name not in self._found:
            stem = name.replace("-", "_")
            exists = importlib.util.find_spec(f"{self.package}.{stem}") is not None
            importlib.import_module(f"{self.package}.{stem if exists else f'{stem}_'}")
        return self._found[name]

    def items(self) -> list[tuple[str, Thing]]:
        """All of them by name, sorted, with those of installed plugins."""
        load_plugins()
        return [(name, self.get(name)) for name in self.names()]

    def __contains__(self, name: object) -> bool:
        if name in self.names():  # of whatever type it is
            return True
        load_plugins()
        return name in self.names()

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Decorator: adds a class, function or value under ``name``.

        Raises:
            ValueError: the name is taken: a file that names it would mean two things.
        """

        def add(thing: Registered) -> Registered:
            if name in self._found:
                other = getattr(self._found[name], "__name__", self._found[name])
                raise ValueError(f"{self.what} {name!r} is already registered, by {other}; choose another name")
            self._found[name] = thing  # type: ignore[assignment]
            return thing

        return add


def load_plugins() -> None:
    """Imports the modules that installed packages list in the entry-point group ``seenn.plugins``."""
    for entry in entry_points(group=GROUP):
        load_plugin(entry.value)


def load_plugin(module: str) -> None:
    """Imports ``module``, which registers what it has to offer; runs its code.

    Raises:
        UnknownNameError: there is no such module.
        PluginError: importing it fails.
    """
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the plugin's code raises
        raise (UnknownNameError if is_missing(module, error) else PluginError)(
            f"the plugin {module} cannot be imported ({type(error).__name__}: {error}): check its name and its code"
        ) from error


def is_missing(module: str, error: BaseException) -> bool:
    """Whether importing ``module`` failed because there is none, and not for something that it imports."""
    return isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message where nothing is registered as ``name``."""
    return (
        f"unknown {what} {name!r}.{did_you_mean(name, known)} A plugin's needs --plugin MODULE, in Python its import."
    )


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Inside, modules of the current folder can be imported, as ``python -m`` would."""
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _named(stem: str) -> str:
    return stem.rstrip("_").replace("_", "-")
