"""Ops on images that are parts of an image: windows and heads that a model has folded into the batch.

The model calls them on ``[B · parts, C, ...]``. What acts on every channel by itself does the same on
``[B, parts · C, ...]``; a convolution does with a group a part, normalisation with its statistics repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from torch import Tensor, fx

from seenn.capture.handlers import Alias, Call, Made, Refused, Result
from seenn.core.ops import BatchNorm, Conv2d, Op, Reshape

Handler = Callable[[Call], Result]


def by_part(handler: Handler) -> Handler:
    """Decorator, for any layout: the handler's ops take ``[B, C, ...]`` and keep channels apart, but for what
    ``_repeated`` knows."""

    @wraps(handler)
    def handle(call: Call) -> Result:
        if not isinstance(call.args[0], fx.Node) or (layout := call.layout()).plain:
            return handler(call)
        parts, shape = layout.fold, call.shape()
        if layout.axis != 0 or len(shape) < 2:
            raise Refused(
                f"works on a value of shape {list(shape)}, whose first axis is not the batch",
                "bring it to [B, ...] before",
            )
        made = handler(call)
        assert isinstance(made, Made | Alias)
        merged = call.of(Reshape(shape=(parts * shape[1], *shape[2:])))
        return Made(Reshape(shape=call.image(call.node)), (_of_parts(made, call.args[0], merged, parts),))

    return handle


def _of_parts(value: Any, source: fx.Node, merged: Made, parts: int) -> Any:
    """``value`` with ``merged`` in place of ``source``, and its ops for all parts at once."""
    if value is source:
        return merged
    if isinstance(value, Alias):
        return _of_parts(value.source, source, merged, parts)
    assert isinstance(value, Made)
    inputs = tuple(_of_parts(read, source, merged, parts) for read in value.inputs)
    return replace(value, op=_repeated(value.op, parts), inputs=inputs)


def _repeated(op: Op, parts: int) -> Op:
    if isinstance(op, Conv2d):
        return type(op)(
            _tiled(op.weight, parts), None if op.bias is None else _tiled(op.bias, parts),
            **{**op.config(), "groups": op.groups * parts},
        )  # fmt: skip
    if isinstance(op, BatchNorm):
        if op.training:
            raise Refused("it gathers the statistics of parts of images", "call model.eval() first")
        arguments: dict[str, Any] = {name: _tiled(tensor, parts) for name, tensor in op.tensors().items()}
        return type(op)(**arguments, **op.config()).eval()
    return op


def _tiled(weight: Tensor, parts: int) -> Tensor:
    return frozen(weight).repeat(parts, *[1] * (weight.dim() - 1))


def frozen(weight: Tensor) -> Tensor:
    """A weight that may be copied; refuses one that training would then change in one place only."""
    if weight.requires_grad:
        raise Refused("shares its weights between parts of an image, which training would tear apart",
                      "freeze them: requires_grad_(False)")  # fmt: skip
    return weight.detach()
