"""Ops on signals ``[B, C, L]``: those on images, one pixel high."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from seenn.capture.handlers import Alias, Call, Made, Result
from seenn.core.ops import Reshape

#: What an argument of the functions for images is along the row's height.
_ACROSS = {
    "kernel_size": 1,
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "output_size": 1,
    "scale_factor": 1,
    "scale_factors": 1,
}

Handler = Callable[[Call], Result]


def by_row(handler: Handler) -> Handler:
    """Decorator: the handler of a call on images, for the same call on images and on signals."""

    @wraps(handler)
    def handle(call: Call) -> Result:
        if len(call.shape()) != 3 or not call.layout().plain:
            return handler(call)
        channels, length = call.image()
        image = call.of(Reshape(shape=(channels, 1, length)))
        made = handler(_Row(call.node, call.module, (image, *call.args[1:]), call.kwargs, call.constants))
        if isinstance(made, Alias):
            return Alias(call.args[0])
        assert isinstance(made, Made)
        shape, layout = call.node.meta["shape"], call.node.meta["layout"]
        if isinstance(shape, torch.Size):
            return Made(Reshape(shape=layout.image(shape)), (made,))
        return Made(Reshape(shape=layout[0].image(shape[0])), (made,)), None  # a maximum, and its places

    return handle


@dataclass(frozen=True)
class _Row(Call):
    """A call on signals as the call on images that it is."""

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        value = super().argument(position, name, default)
        if name not in _ACROSS or value in (None, []) or isinstance(value, str):
            return value
        return _ACROSS[name], value[0] if isinstance(value, tuple | list) else value

    def constant(self, value: Any) -> Tensor:
        found = super().constant(value)
        return found.unsqueeze(2) if found.dim() == 3 else found

    def shape(self, value: Any = None) -> tuple[int, ...]:
        first = self.args[0].inputs[0]
        batch, channels, length = super().shape(first if value is None or value is self.args[0] else value)
        return batch, channels, 1, length

    def image(self, value: Any = None) -> tuple[int, ...]:
        return self.shape(value)[1:]

    def layout(self, value: Any = None) -> Any:
        return super().layout(self.args[0].inputs[0] if value is None else value)
