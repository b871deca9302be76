"""How an ONNX node becomes torch calls: a table from op types to handlers.

A handler receives an ``OnnxCall`` and returns the value of each output (one value, or a tuple), or raises
``Refused`` with a reason and a fix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from converter.onnx_import.builder import FxBuilder
from converter.onnx_import.limits import MAX_SETTINGS
from converter.onnx_import.values import Array, Known, Rows, Traced, Value
from seenn.capture import Refused


@dataclass(frozen=True)
class OnnxCall:
    """One ONNX node with the values that it reads; an optional input that is left out is None."""

    node: onnx.NodeProto
    opset: int
    inputs: tuple[Value | None, ...]
    builder: FxBuilder
    rows: Rows | None = None  # how the inputs lie in the ONNX graph, where they are values that are kept of rows

    @property
    def name(self) -> str:
        """The node's name, or that of its first output."""
        return node_name(self.node)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value; strings are decoded."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return default

    def setting(self, name: str, position: int, default: Any = None) -> Any:
        """What older opsets have as an attribute and newer ones as the input at ``position``: numbers."""
        if (own := self.attribute(name)) is not None:
            return own
        return default if self.value(position) is None else self.numbers(position)

    def numbers(self, position: int) -> Any:
        """The numbers at ``position``, a list of them or one: a setting, and so not many."""
        return few(self.array(position))

    def value(self, position: int) -> Value | None:
        """The input at ``position``; None where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def traced(self, position: int = 0) -> Traced:
        """The activation at ``position``."""
        value = self.value(position)
        if isinstance(value, Rows):
            raise refused_rows(value, self.builder)
        if not isinstance(value, Traced):
            raise Refused(f"input {position} is a constant", "expected values computed from the image")
        return value

    def array(self, position: int) -> Array:
        """The constant at ``position``."""
        value = self.value(position)
        if not isinstance(value, Known):
            raise Refused(f"input {position} is computed from the image", "store it as a constant of the model")
        if value.varies:
            raise Refused(f"input {position} depends on the batch size", "compute it from one image")
        return value.at[0]

    def at_batches(self, position: int) -> list[tuple[int, list[Any]]]:
        """The numbers at ``position``, which may depend on the batch size: each with the size it is for."""
        value = self.value(position)
        if not isinstance(value, Known):
            raise Refused(f"input {position} is computed from the image", "store it as a constant of the model")
        return list(zip(self.builder.batch.declared, map(few, value.at), strict=True))

    def per_image(self, x: Traced | Rows, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """What ``x`` becomes, without the batch; refuses shapes (one a batch size) that do not begin with it."""
        for batch, shape in zip(self.builder.batch.declared, shapes, strict=True):
            if tuple(shape[:1]) != (batch,) or shape[1:] != shapes[0][1:]:
                raise Refused(
                    f"turns {list(x.sizes(batch))} into {list(shape)}: the batch of {batch} is not the first axis",
                    "export it so that images stay apart, for example with flatten(1)",
                )
        return tuple(shapes[0][1:])

    def tensor(self, position: int) -> Tensor:
        """The weight at ``position``, a float32 copy."""
        array = self.array(position)
        if array.dtype != np.float32:
            raise _other_type(array)
        return torch.from_numpy(np.array(array, order="C"))

    def alike(self, position: int) -> Array:
        """The constant at ``position`` as it meets each image of the activations.

        One that is repeated for every image, by the size of the batch, has it once: an axis of size 1 there, or as long
        as one image has rows.
        """
        value, rank = self.value(position), self._rank
        axis, outer, rows = self._lying
        if not isinstance(value, Known) or (place := value.at[0].ndim - (rank - axis)) < 0:
            return self.array(position)
        found = [_of_one(array, batch, place, outer, rows) for batch, array in
                 zip(self.builder.batch.declared, value.at, strict=True)]  # fmt: skip
        one = found[0]
        if (
            value.at[0].ndim > rank
            or one is None
            or any(other is None or not np.array_equal(one, other) for other in found)
        ):
            raise Refused(
                f"has a constant of shape {list(value.at[0].shape)} for {rank} axes",
                "expected the same one for every image",
            )
        return one

    @property
    def _rank(self) -> int:
        """The most axes that the ONNX graph has of an activation."""
        return max(self.images(value)[0] for value in self.inputs if isinstance(value, Traced))

    @property
    def _lying(self) -> tuple[int, int, int]:
        """Along which axis the images are, within how many rows of it, and how many one has."""
        return (
            (0, 1, 1) if self.rows is None else (self.rows.axis, self.rows.outer, self.rows.kept.shape[self.rows.axis])
        )

    def constant(self, position: int) -> Tensor:
        """What ``alike`` says, a copy: real numbers, or a mask."""
        array = self.alike(position)
        if array.dtype not in (np.float32, np.bool_):
            raise _other_type(array)
        return torch.from_numpy(np.array(array, order="C"))

    def axis(self, axis: int, x: Traced) -> int:
        """Which axis of ``x`` the ONNX graph's ``axis`` is; refuses that of the images."""
        rank, images = self.images(x)
        if not -rank <= axis < rank:
            raise Refused(f"axis {axis} of a value with {rank} axes", "the file is damaged: export it again")
        if axis % rank == images:
            if self.rows is not None:
                raise refused_rows(self.rows, self.builder)
            raise Refused("it works across the batch", "keep images independent: act on the axes after the first")
        return axis % rank + (self.rows is not None)

    def images(self, x: Traced) -> tuple[int, int]:
        """How many axes the ONNX graph has of ``x``, and along which the images are."""
        return (len(x.shape) + 1, 0) if self.rows is None else (len(x.shape), self.rows.axis)

    def axes_from(self, axis: int, x: Traced) -> int:
        """``axis``, if the images are along none behind it."""
        start = self.axis(axis, x)
        if self.rows is not None and self.rows.axis >= start:
            raise refused_rows(self.rows, self.builder)
        return start

    def placed(self, kept: Traced, axis: int, outer: int = 1) -> Traced | Rows:
        """What is kept of ``Rows`` as these, or as a value that has the images first and alone."""
        if axis == 0 and outer == 1 and kept.shape[0] == 1:
            return self.reshape(kept, kept.shape[1:])
        return Rows(kept, axis, outer)

    def spatial(self, position: int = 0) -> tuple[Traced, int]:
        """The activation at ``position``, which must be ``[B, C, ...]``, and how many axes come after the channels."""
        x = self.traced(position)
        if not 2 <= len(x.shape) <= 4:
            raise Refused(f"works on {len(x.shape) + 1} axes", "expected images [B, C, H, W] or signals [B, C, L]")
        return x, len(x.shape) - 1

    def image(self, position: int = 0) -> Traced:
        """The activation at ``position``, which must be ``[B, C, H, W]``."""
        x = self.traced(position)
        if len(x.shape) != 3:
            raise Refused(
                f"works on {len(x.shape) + 1} axes", "expected images [B, C, H, W]; others are no image layers"
            )
        return x

    def module(self, module: nn.Module, x: Traced) -> Traced:
        """``module(x)`` under this node's name."""
        return self.builder.module(self.name, module, x)

    def function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Traced:
        """``function(*args, **kwargs)`` under this node's name."""
        return self.builder.function(self.name, function, *args, **kwargs)

    def buffer(self, tensor: Tensor) -> Traced:
        """A constant argument for ``function``."""
        return self.builder.buffer(f"{self.name}_constant", tensor)

    def repeated(self, position: int) -> Traced:
        """The constant at ``position``, with as many axes as the activations, as a value that every image has."""
        one = self.constant(position)
        return self.builder.repeated(f"{self.name}_constant", one if self.rows is None else one[None])

    def reshape(self, x: Traced, shape: tuple[int, ...]) -> Traced:
        """``x`` with another shape per image."""
        if shape == x.shape:
            return x
        if len(shape) == 1 and x.shape:
            return self.module(nn.Flatten(), x)
        return self.function(torch.reshape, x, (-1, *shape))


Result = Value | tuple[Value, ...]
Handler = Callable[[OnnxCall], Result]
HandlerT = TypeVar("HandlerT", bound=Handler)
_HANDLERS: dict[str, Handler] = {}


def imports(*op_types: str, rows: float | None = 0) -> Callable[[HandlerT], HandlerT]:
    """Decorator: the handler of these ops of ONNX's own domain.

    Args:
        rows: of how many first inputs the op acts on each row alone, whatever is in front of it; these may be ``Rows``,
            and so is the result then. None: the handler takes ``Rows`` as they are.
    """

    def add(handler: HandlerT) -> HandlerT:
        for op_type in op_types:
            _HANDLERS[op_type] = handler if rows is None else partial(by_rows, rows, handler)
        return handler

    return add


def by_rows(count: float, handler: Handler, call: OnnxCall, *, inner: int = 0) -> Result:
    """What the handler makes of the call: of what is kept of ``Rows`` where it may, the first ``count`` inputs.

    The images must not be along the last ``inner`` axes. The handler leaves the axes in their order, but may drop some.
    """
    rows = [value for value in call.inputs if isinstance(value, Rows)]
    if not rows:
        return handler(call)
    first, axes = rows[0], len(rows[0].kept.shape)
    alike = all(
        (value.axis, value.outer, len(value.kept.shape), value.kept.shape[value.axis])
        == (first.axis, first.outer, axes, first.kept.shape[first.axis])
        for value in rows
    )
    for i, value in enumerate(call.inputs):
        mixed = isinstance(value, Traced) or (isinstance(value, Known) and value.at[0].ndim > axes)
        if mixed or not alike or (isinstance(value, Rows) and (i >= count or value.axis >= axes - inner)):
            raise refused_rows(first, call.builder)
    kept = tuple(v.kept if isinstance(v, Rows) else v for v in call.inputs)
    made = handler(replace(call, inputs=kept, rows=first))
    results = made if isinstance(made, tuple) else (made,)
    placed = tuple(Rows(value, first.axis, first.outer) if isinstance(value, Traced) else value for value in results)
    for value in placed:
        shape = value.kept.shape if isinstance(value, Rows) else ()
        if len(shape) == axes and shape[first.axis] != first.kept.shape[first.axis]:
            raise refused_rows(first, call.builder)
    return placed if isinstance(made, tuple) else placed[0]


def refused_rows(rows: Rows, builder: FxBuilder) -> Refused:
    """Why a node does not take them."""
    found = list(rows.sizes(builder.batch.declared[0]))
    fix = "bring the batch to the first axis before" if rows.axis else "keep the batch there"
    return Refused(f"works on {found}, {rows.lying}", fix)


def find_handler(op_type: str) -> Handler | None:
    """The handler of an op type."""
    return _HANDLERS.get(op_type)


def node_name(node: onnx.NodeProto) -> str:
    """The node's name, or that of its first output."""
    return node.name or next((name for name in node.output if name), node.op_type)


def few(array: Array) -> Any:
    """A setting as numbers of Python: a list of them, or one."""
    if array.size > MAX_SETTINGS:
        raise Refused(f"has a setting of {array.size:,} numbers", f"expected at most {MAX_SETTINGS}: export it again")
    return array.tolist()


def _of_one(array: Array, batch: int, place: int, outer: int, rows: int) -> Array | None:
    """What one image has of a constant with the images along the axis ``place``; None where they differ."""
    size, (before, after) = array.shape[place], (array.shape[:place], array.shape[place + 1 :])
    if size == 1:
        return array
    if size != batch * rows:
        return None
    apart = array.reshape(*before, outer, batch, rows // outer, *after)
    one = apart.take([0], place + 1)
    return one.reshape(*before, rows, *after) if np.array_equal(apart, one.repeat(batch, place + 1)) else None


def _other_type(array: Array) -> Refused:
    return Refused(f"has a constant of type {array.dtype}", "export the model in float32")


def parameter(tensor: Tensor) -> nn.Parameter:
    """A weight that is not trained."""
    return nn.Parameter(tensor, requires_grad=False)
