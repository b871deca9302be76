"""Models of the user's own, by Python path: ``package.module:name``.

This runs the user's code, as ``python -m package.module`` would: the current folder can be imported from.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import PurePath
from typing import Any

from torch import nn

from converter.load.layout import find_first_convolution, find_head
from converter.load.spec import ModelSpec, build_error
from seenn.errors import ModelArgumentError, ModelError, did_you_mean, kind_of
from seenn.registry import current_folder_importable, is_missing


def build_python_path(spec: ModelSpec) -> nn.Module:
    """Calls the factory with ``spec``'s kwargs, and with ``num_classes`` and ``in_chans`` if it takes them.

    Raises:
        ModelError: it cannot be imported, fails, returns something else than a module, or a module of
            other sizes than ``spec`` asks for.
    """
    with current_folder_importable():
        factory = find_factory(spec.name)
        wanted = {"num_classes": spec.num_classes, "in_chans": spec.in_chans}
        sizes = {key: size for key, size in wanted.items() if size is not None and _takes(factory, key)}
        module = _call(factory, spec, sizes)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{spec.name} returned {kind_of(module)}; expected a torch.nn.Module (a factory, or a class of one)"
        )
    first = find_first_convolution(module)
    built = {"num_classes": find_head(module).outputs, "in_chans": None if first is None else first.inputs}
    for key, size in wanted.items():
        if size is not None and built[key] not in (None, size):
            raise ModelError(
                f"{spec.name} built a module with {key}={built[key]}, expected {size}; "
                f"let the factory take an argument {key!r}"
            )
    return module


def _call(factory: Callable[..., Any], spec: ModelSpec, sizes: Mapping[str, int]) -> object:
    """What the factory returns; one that passes any keyword on does without the sizes that it cannot place."""
    arguments = {**spec.kwargs, **sizes}
    try:
        return factory(**arguments)
    except Exception as error:  # the user's code can raise anything
        if refused := [key for key in sizes if repr(key) in str(error)]:
            return _call(factory, spec, {key: size for key, size in sizes.items() if key not in refused})
        raise build_error(spec, error)(
            f"{spec.name}(**{arguments}) failed: {type(error).__name__}: {error}; check its arguments"
        ) from error


def find_factory(path: str) -> Callable[..., Any]:
    """What ``package.module:name`` names; runs the module's code.

    Raises:
        ModelError: the module fails as it is imported.
        ModelArgumentError: there is no such module, nothing of that name in it, or something that cannot be called.
    """
    module_name, _, attribute = path.partition(":")
    file = PurePath(module_name)
    if file.suffix == ".py" or file.name != module_name:
        there = "" if file.parent == PurePath() else f", in the folder {file.parent}"
        raise ModelArgumentError(f"{path!r} names a file, expected a module: write {file.stem}:{attribute}{there}")
    try:
        with current_folder_importable():
            module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise (ModelArgumentError if is_missing(module_name, error) else ModelError)(
            f"cannot import {module_name!r} for the model {path!r}: {type(error).__name__}: {error} "
            f"(looked in the current folder and on the Python path): check the name, or put it there"
        ) from error
    try:
        factory = reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        names = [name for name, value in vars(module).items() if callable(value)]
        raise ModelArgumentError(f"{module_name!r} has no {attribute!r}.{did_you_mean(attribute, names)}") from error
    if not callable(factory):
        raise ModelArgumentError(f"{path} is {kind_of(factory)}; expected a function or a class")
    return factory


def _takes(factory: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(factory).parameters.values()
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
