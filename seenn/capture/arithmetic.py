"""Sums, products and quotients: of activations, of activations and constants, of activations and numbers."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from seenn.capture.handlers import IMAGE, Alias, Call, Made, Refused, Result, called, handles, makes, value_of
from seenn.capture.probed import SHUT, is_softmax
from seenn.capture.spelled import is_zero, one_side, product, total
from seenn.core.ops import (
    Add,
    Concat,
    Constant,
    Divide,
    ElementwiseAffine,
    Maximum,
    Multiply,
    Pointwise,
    Reshape,
    Scale,
    Shift,
    StatelessOp,
)

_STACKS = {"hstack": 1, "column_stack": 1, "dstack": 2}  # join along a fixed axis


@handles("add", "iadd", any_layout=True)
def add(call: Call) -> Result:
    left, right = call.args[0], call.argument(1, "other")
    if isinstance(right, fx.Node) and type(left) is int and left == 0:
        return Alias(right)  # sum([...]) starts at 0
    return _sum(call, left, right, call.argument(2, "alpha", 1))


@handles("sub", "isub", any_layout=True)
def subtract(call: Call) -> Result:
    return _sum(call, call.args[0], call.argument(1, "other"), -call.argument(2, "alpha", 1))


@handles("rsub", any_layout=True)
def subtract_from(call: Call) -> Result:
    return _sum(call, call.argument(1, "other"), call.args[0], -call.argument(2, "alpha", 1))


def _sum(call: Call, left: Any, right: Any, factor: float) -> Result:
    """``left + factor · right``."""
    if (passed := _straight_through(left, right, factor)) is not None:
        return Alias(passed)
    if (spelled := total(call, left, right, factor)) is not None:
        return spelled
    if (fixed := _fixed(call, right)) is not None:
        return _shifted(call, left, fixed if factor == 1 else factor * fixed)
    scaled = right if factor == 1 else Made(Scale(factor=float(factor)), (right,))
    if (fixed := _fixed(call, left)) is not None:
        return _shifted(call, scaled, fixed)
    call.shared(left, right)
    return Made(Add(), (left, scaled))


@handles("mul", "imul", "multiply", any_layout=True)
def multiply(call: Call) -> Result:
    left, right = call.args[0], call.argument(1, "other")
    if (spelled := product(call, left, right)) is not None:
        return spelled
    for value, other in ((left, right), (right, left)):
        if (fixed := _fixed(call, other)) is not None:
            return _scaled(call, value, fixed)
    call.shared(left, right)
    return Made(Multiply(), (left, right))


@handles("truediv", "itruediv", "div", "divide", "true_divide", any_layout=True)
def divide(call: Call) -> Result:
    left, right = call.args[0], call.argument(1, "other")
    if call.kwargs.get("rounding_mode"):
        raise Refused("divides and rounds", "write it as torch.floor(a / b), clamped to constant limits")
    if _is_number(right) and right == 0:
        raise Refused("divides by 0", "divide by numbers above 0, be they scales of a quantiser")
    if (fixed := _fixed(call, right)) is not None:
        return _scaled(call, left, 1.0 / fixed)
    if (fixed := _fixed(call, left)) is not None:
        inverse = Made(Pointwise(function="reciprocal"), (right,))
        return inverse if _is_number(left) and left == 1 else _scaled(call, inverse, fixed)
    call.shared(left, right)
    return Made(Divide(), (left, right))


def _straight_through(left: Any, right: Any, factor: float) -> Any:
    """q of ``x + (q − x)`` and ``(q + x) − x``, which gradients pass as if it were x; None of other sums."""
    for x, other, name in ((left, right, "sub"), (right, left, "sub" if factor == 1 else "add")):
        other = value_of(other)
        if isinstance(other, fx.Node) and called(other.target) == name and abs(factor) == 1 and len(other.args) == 2:
            first, second = other.args
            if factor == 1 and value_of(second) is value_of(x):
                return first
            if factor == -1 and x is right and value_of(x) in (found := [value_of(first), value_of(second)]):
                return found[1 - found.index(value_of(x))]
    return None


def _fixed(call: Call, value: Any) -> Any:
    """The number or tensor that an operand always is; None for one that depends on the image."""
    return value if _is_number(value) else call.known(value)


def _shifted(call: Call, value: Any, amount: Any) -> Made:
    if _is_number(amount):
        return Made(Shift(amount=float(amount)), (value,))
    bias = call.meeting(amount)
    if not bool(bias.isfinite().all()):
        if bool((bias == math.inf).any()) or not all(map(is_softmax, call.node.users)):
            raise Refused("adds values that are not finite", "use finite numbers, such as -1e4")
        bias = bias.clamp(min=SHUT)
    return Made(ElementwiseAffine(bias=bias), (value,))


def _scaled(call: Call, value: Any, factor: Any) -> Made:
    op = Scale(factor=float(factor)) if _is_number(factor) else ElementwiseAffine(call.meeting(factor))
    return Made(op, (value,))


makes(lambda: Scale(factor=-1.0), "neg", "negative")


@handles("lerp", any_layout=True)
def interpolated(call: Call) -> Result:
    """``(1 − weight) · input + weight · end``."""
    weight = _fixed(call, call.argument(2, "weight"))
    if weight is None:
        raise Refused("weighs by an activation", "write it as a + w * (b - a)")
    return _weighed(call, (call.args[0], 1.0 - weight), (call.argument(1, "end"), weight))


@handles("addcmul", "addcdiv", any_layout=True)
def add_product(call: Call) -> Result:
    """``input + value · a · b``, or ``a / b``, where at least one of a and b is the same for all images."""
    a, b = call.argument(1, "tensor1"), call.argument(2, "tensor2")
    divides, known_a, known_b = called(call.node.target) == "addcdiv", call.known(a), call.known(b)
    x, gain = (a, known_b) if known_b is not None else (b, known_a)
    if gain is None or (divides and gain is known_a):
        raise Refused(f"{'divides' if divides else 'multiplies'} activations and adds another", "write it as two calls")
    factor = call.argument(3, "value", 1) * (1 / gain if divides else gain)
    return _weighed(call, (call.args[0], 1.0), (x, factor))


def _weighed(call: Call, *parts: tuple[Any, Any]) -> Result:
    """The sum of values times numbers or constants; some of the values may be constants as well."""
    moving: list[Any] = []
    constant: Any = 0.0
    for value, factor in parts:
        if (known := _fixed(call, value)) is not None:
            constant = constant + known * factor
        else:
            call.shared(value, call.node)
            moving.append(value if _is_number(factor) and factor == 1 else _scaled(call, value, factor))
    total = moving[0] if len(moving) == 1 else Made(Add(), tuple(moving))
    return Alias(total) if _is_number(constant) else _shifted(call, total, constant)


@handles("maximum", "minimum", "fmax", "fmin", any_layout=True)
def extreme(call: Call) -> Result:
    """``min(a, b) = −max(−a, −b)``; with a constant c, ``max(x, c) = relu(x − c) + c``."""
    a, b = call.args[0], call.argument(1, "other")
    sign = -1 if called(call.node.target) in ("minimum", "min", "fmin") else 1
    for x, constant in ((a, b), (b, a)):
        if is_zero(call, constant):
            return one_side(call, sign, x)
        if (known := call.known(constant)) is not None:
            if bool((known == known.max()).all()):
                name = "max" if sign < 0 else "min"
                return Made(Pointwise(function=f"clamp_{name}", settings={name: float(known.max())}), (x,))
            limit = call.meeting(known)
            beyond = one_side(call, sign, Made(ElementwiseAffine(bias=-limit), (x,)))
            return Made(ElementwiseAffine(bias=limit), (beyond,))
    call.shared(a, b)
    if sign > 0:
        return Made(Maximum(), (a, b))
    largest = Made(Maximum(), tuple(Made(Scale(factor=-1.0), (value,)) for value in (a, b)))
    return Made(Scale(factor=-1.0), (largest,))


@handles("cat", "concat", "concatenate", *_STACKS, any_layout=True)
def concat(call: Call) -> Result:
    parts = tuple(part for part in _parts(call) if math.prod(call.shape(part)))
    call.shared(*(part for part in parts if call.known(part) is None))
    if len(parts) == 1 and call.known(parts[0]) is None:
        return Alias(parts[0])
    return Made(Concat(axis=_joined(call)), tuple(materialised(call, part) for part in parts))


@handles("stack", any_layout=True)
def stack(call: Call) -> Result:
    axis, sizes = _joined(call), list(call.image(call.node))
    sizes[axis - 1] = 1
    one: StatelessOp = Reshape(shape=tuple(sizes))
    return Made(Concat(axis=axis), tuple(Made(one, (materialised(call, part),)) for part in _parts(call)))


def _parts(call: Call) -> tuple[Any, ...]:
    if isinstance(call.args[0], fx.Node):
        raise Refused("joins a tuple as it is", "name its parts: a, b = x.chunk(2, 1)")
    return tuple(call.args[0])


def _joined(call: Call) -> int:
    """The axis along which the result is joined."""
    axis = _STACKS.get(called(call.node.target), call.argument(1, "dim", call.kwargs.get("axis", 0)))
    if axis % len(call.shape(call.node)) == call.layout(call.node).axis:
        raise Refused("concatenates along the batch", "keep images independent")
    return call.axis(axis, call.node)


def materialised(call: Call, value: Any) -> Any:
    """An activation as it is; a constant with an axis of images as a node that gives it to every image."""
    if (constant := call.known(value)) is None:
        return value
    layout = call.layout(value)
    return Made(Constant(constant.squeeze(layout.axis) if layout.fold == 1 else constant), (IMAGE,))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
