"""How a traced call becomes a node of the closed op set: a table from modules, functions and methods.

A handler receives a ``Call`` and returns a ``Made`` (an op and what it reads, which may be a ``Made`` in turn),
an ``Alias`` (the call changes nothing), a tuple of them (the call has several outputs; None for one that is not
there), or raises ``Refused`` with a reason and a fix.

A name in the table stands for every function, operator and method of torch or Python that is called so, ``aten``
operators of ``torch.export``'s graphs included, and for the one that works in place (``relu_``), which the trace has
dealt with: their arguments are the same. One that takes others is in the table itself, and comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from seenn.capture.layout import Layout
from seenn.core.ops import Op


@dataclass(frozen=True)
class Call:
    """One traced call with what a handler may want to know about it.

    Sizes and flags among the arguments are given as what they are; one that depends on the number of images
    stays an fx node.
    """

    node: fx.Node
    module: nn.Module | None  # for module calls
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    constants: Mapping[fx.Node, Any]  # what does not depend on the image, batch axes of size 1 included

    def of(self, op: Op) -> Made:
        """``op`` of the first argument."""
        return Made(op, (self.args[0],))

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at ``position`` or called ``name``; one that a module was made with is its attribute."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, getattr(self.module, name, default))

    def known(self, value: Any) -> Tensor | None:
        """The tensor that an argument always is; None for one that depends on the image, or is no tensor."""
        found = self.constants.get(value) if isinstance(value, fx.Node) else None
        return found if isinstance(found, Tensor) else None

    def weight(self, position: int, name: str) -> Tensor | None:
        """An optional weight among the arguments, or a module's; None where there is none."""
        value = self.argument(position, name)
        return None if value is None else self.constant(value)

    def constant(self, value: Any) -> Tensor:
        """A weight: a module's, or one given as an argument; refuses one that is computed while the network runs."""
        if isinstance(value, Tensor):
            return value
        if (found := self.known(value)) is None:
            raise Refused(
                "its weight is computed while the network runs", "store the weight as a parameter or a buffer"
            )
        return found

    def shape(self, value: Any = None) -> tuple[int, ...]:
        """The traced shape of ``value`` (an fx node; by default the first argument)."""
        node = self.args[0] if value is None else value
        shape = node.meta.get("shape") if isinstance(node, fx.Node) else None
        if not isinstance(shape, torch.Size):
            raise Refused("reads something that is not one tensor", "give it one value, by its name")
        return tuple(shape)

    def layout(self, value: Any = None) -> Layout:
        """Where the images are in the traced ``value`` (by default the first argument)."""
        shape = self.shape(value)
        layout: Layout | None = (self.args[0] if value is None else value).meta["layout"]
        if layout is None:
            raise Refused(f"a value of shape {list(shape)} has no one axis of images", "keep images independent")
        return layout

    def image(self, value: Any = None) -> tuple[int, ...]:
        """The shape of one image's part of ``value`` (by default the first argument)."""
        return self.layout(value).image(self.shape(value))

    def axis(self, value: int, of: Any = None) -> int:
        """``value``, an axis of the first argument (or ``of``), as the network's axis; refuses the batch axis."""
        rank, layout = len(self.shape(of)), self.layout(of)
        if not -rank <= value < rank:
            raise Refused(f"axis {value} of a value with {rank} axes", "name one of them")
        if value % rank == layout.axis:
            raise Refused("it works across the batch", "keep images independent: act on the axes after the first")
        return layout.place(value % rank)

    def axes(self, value: Any) -> tuple[int, ...]:
        """One axis or several of the first argument as the network's, in order."""
        return tuple(sorted(self.axis(v) for v in ((value,) if isinstance(value, int) else value)))

    def meeting(self, constant: Tensor) -> Tensor:
        """A constant as it meets the values of the call, image by image."""
        shape = self.shape(self.node)
        met = self.layout(self.node).constant(constant, len(shape))
        if met is None:
            raise Refused(
                f"meets a constant of shape {list(constant.shape)} with values of shape {list(shape)}",
                "give every image the same constant",
            )
        return met if met.is_floating_point() else met.to(self.node.meta["dtype"])

    def shared(self, *values: Any) -> None:
        """Refuses traced values that do not have their images along the same axis, counted from the last."""
        places = {(len(self.shape(v)), self.layout(v)) for v in values}
        if len(places) > 1:
            raise Refused(
                "its inputs have their images along different axes, so that it mixes images",
                "bring them to [B, ...] alike",
            )


@dataclass(frozen=True)
class Made:
    """An op and what it reads: fx nodes, other ``Made`` or ``Alias``, or ``IMAGE``."""

    op: Op
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Alias:
    """The call's value is the value of another node."""

    source: Any


IMAGE = object()  # the network's input, for ops that need to know how many images there are


class Refused(Exception):
    """The call cannot be expressed in the closed op set."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


Result = Made | Alias | tuple[Made | Alias | None, ...]
HandlerT = TypeVar("HandlerT", bound=Callable[[Call], Result])


@dataclass(frozen=True)
class Handler:
    """What makes nodes of a call; ``any_layout``: wherever the images are, and not on ``[B, ...]`` alone."""

    make: Callable[[Call], Result]
    any_layout: bool


_HANDLERS: dict[Any, Handler] = {}


def handles(*targets: Any, any_layout: bool = False) -> Callable[[HandlerT], HandlerT]:
    """Decorator: the handler of these module classes, functions, or names.

    Args:
        any_layout: what it makes is right wherever the traced values have their images (see ``Call.layout``). The
            handlers of other calls get values ``[B, ...]`` only.
    """

    def add(make: HandlerT) -> HandlerT:
        _HANDLERS.update(dict.fromkeys(targets, Handler(make, any_layout)))
        return make

    return add


def makes(op: Callable[[], Op], *targets: Any) -> None:
    """Registers calls that become ``op()`` of their first argument, wherever the images are."""
    handles(*targets, any_layout=True)(lambda call: call.of(op()))


def called(target: Any) -> str:
    """The name of a method, or of a function of torch or Python; of others ``""``."""
    if isinstance(target, str):
        return target.rstrip("_")
    if isinstance(target, OpOverload):
        return target.overloadpacket.__name__.rstrip("_") if target.namespace == "aten" else ""
    package = str(getattr(target, "__module__", "")).partition(".")[0]
    return str(target.__name__).rstrip("_") if package in ("torch", "_operator", "builtins") else ""


def value_of(node: Any, *names: str) -> Any:
    """The call whose value this is, without what only cuts its gradient, copies it, or is called one of ``names``."""
    while isinstance(node, fx.Node) and called(node.target) in ("detach", "clone", "contiguous", "alias", *names):
        node = node.args[0]
    return node


def find_handler(target: Any) -> Handler | None:
    """The handler of a function, a method name, or a module (by its class, then its base classes).

    A subclass counts as its base only while it does not redefine ``forward``: otherwise it computes
    something else.
    """
    if not isinstance(target, nn.Module):
        exact = target.overloadpacket if isinstance(target, OpOverload) else target
        return _HANDLERS.get(exact) or _HANDLERS.get(called(target))
    cls = type(target)
    for base in cls.__mro__:
        if base in _HANDLERS:
            return _HANDLERS[base] if cls.forward is getattr(base, "forward", None) else None
    return None
