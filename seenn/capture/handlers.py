"""How a traced call becomes a node of the closed op set: a table from modules, functions and methods.

A handler receives a ``Call`` and returns a ``Made`` (an op and what it reads), an ``Alias`` (the call changes
nothing), a tuple of ``Made`` (the call has several outputs), or raises ``Refused`` with a reason and a fix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx, nn

from seenn.ops import Op


@dataclass(frozen=True)
class Call:
    """One traced call with what a handler may want to know about it."""

    node: fx.Node
    module: nn.Module | None  # for module calls
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at ``position`` or called ``name``."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    def shape(self, value: Any = None) -> tuple[int, ...]:
        """The traced shape of ``value`` (an fx node; by default the first argument), batch first."""
        node = self.args[0] if value is None else value
        shape = node.meta.get("shape") if isinstance(node, fx.Node) else None
        if not isinstance(shape, torch.Size):
            raise Refused("reads something that is not one tensor", "give it one value, by its name")
        return tuple(shape)

    def axis(self, value: int) -> int:
        """``value`` as a non-negative axis of the first argument; refuses the batch axis."""
        axis = value % len(self.shape())
        if axis == 0:
            raise Refused("it works across the batch", "keep images independent: act on the axes after the first")
        return axis


@dataclass(frozen=True)
class Made:
    """An op and the fx nodes that it reads."""

    op: Op
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Alias:
    """The call's value is the value of another node."""

    source: Any


class Refused(Exception):
    """The call cannot be expressed in the closed op set."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


Result = Made | Alias | tuple[Made, ...]
Handler = Callable[[Call], Result]
HandlerT = TypeVar("HandlerT", bound=Handler)
_HANDLERS: dict[Any, Handler] = {}


def handles(*targets: Any) -> Callable[[HandlerT], HandlerT]:
    """Decorator: the handler of these module classes, functions, or method names (strings)."""

    def add(handler: HandlerT) -> HandlerT:
        for target in targets:
            _HANDLERS[target] = handler
        return handler

    return add


def find_handler(target: Any) -> Handler | None:
    """The handler of a function, a method name, or a module (by its class, then its base classes).

    A subclass counts as its base only while it does not redefine ``forward``: otherwise it computes
    something else.
    """
    if not isinstance(target, nn.Module):
        return _HANDLERS.get(target)
    cls = type(target)
    for base in cls.__mro__:
        if base in _HANDLERS:
            return _HANDLERS[base] if cls.forward is getattr(base, "forward", None) else None
    return None
