"""Values of a trace that Python may ask for: what is computed from weights alone has its numbers."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from seenn.capture.failure import ValueTaken


class Value(fx.Proxy):
    """A traced value. One that depends on weights alone, none of which is trained, is a number where one is needed."""

    def item(self) -> Any:
        return self._taken().item()

    def tolist(self) -> Any:
        return self._taken().tolist()

    def __float__(self) -> float:
        return float(self._needed("float"))

    def __int__(self) -> int:
        return int(self._needed("int"))

    def __bool__(self) -> bool:
        known = self._known()
        return super().__bool__() if known is None else bool(known)

    def _taken(self) -> Tensor:
        if (known := self._known()) is None:
            raise ValueTaken("it takes values of the image, or of weights that are trained, out of their tensors")
        return known

    def _needed(self, kind: str) -> Tensor:
        if (known := self._known()) is None:  # it may be a size
            raise TypeError(f"{kind}() of a traced value")
        return known

    def _known(self) -> Tensor | None:
        try:
            with torch.no_grad():
                found = _computed(self.node, cast(fx.Tracer, self.tracer).root)
        except _Unknown:
            return None
        return found if isinstance(found, Tensor) else None


class _Unknown(Exception):
    """It depends on the image, or training changes it."""


def _computed(node: fx.Node, root: nn.Module) -> Any:
    if any(isinstance(user.target, str) and user.target.endswith("_") for user in node.users):
        raise _Unknown  # it is changed in place
    if node.op == "get_attr":
        held = (*root.named_parameters(), *root.named_buffers())  # by attribute they are traced values
        value = next((tensor for name, tensor in held if name == node.target), None)
        if isinstance(value, Tensor) and not value.requires_grad:
            return value
    if node.op in ("call_function", "call_method"):
        args, kwargs = map_arg((node.args, dict(node.kwargs)), lambda read: _computed(read, root))
        if isinstance(node.target, str):
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)
    raise _Unknown
