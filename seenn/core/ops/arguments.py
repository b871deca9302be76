"""Checked conversions of what ops are made with; what an op accepts is the same from Python and from a file.

A field of an op is declared ``name: Annotated[type, check]``, mostly by one of the types at the end. ``check(name,
value)`` returns the value as it is held, or raises ValueError.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

_LARGEST = 1 << 20  # no kernel, pad, stride or size of a classifier comes near; a hostile file might
MOST_LEVELS = 65535  # of a quantiser, to one side of zero: 16 bits, which float32 rounds to as they are
_LARGEST_FLOAT = sys.float_info.max


def integer(name: str, value: object, *, low: int = 0, high: int = _LARGEST) -> int:
    """``value`` as an int in [low, high], or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    return value


def integers(
    name: str, value: object, *, count: int | None = None, low: int = 0, high: int = _LARGEST
) -> tuple[int, ...]:
    """``value`` as a tuple of ints, ``count`` of them if given (one int stands for all then), or ValueError."""
    if count is not None and isinstance(value, int):
        value = (value,) * count
    if not isinstance(value, Sequence) or isinstance(value, str) or count not in (None, len(value)):
        raise ValueError(f"{name} must be {count or 'a list of'} integers, got {value!r}")
    return tuple(integer(name, item, low=low, high=high) for item in value)


def choice(name: str, value: object, *, of: Sequence[str]) -> str:
    """``value`` if it is one of the names, or ValueError."""
    if not isinstance(value, str) or value not in of:
        raise ValueError(f"{name} must be one of {', '.join(of)}, got {value!r}")
    return value


def number(name: str, value: object, *, above: float | None = None) -> float:
    """``value`` as a finite float, strictly above ``above`` if given, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_FLOAT:
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if above is not None and not value > above:
        raise ValueError(f"{name} must be above {above}, got {value!r}")
    return float(value)


def flag(name: str, value: object) -> bool:
    """``value`` as a bool, or ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def parameter(name: str, value: object, *, dims: Sequence[int] = range(9)) -> nn.Parameter:
    """``value`` as a parameter with one of the numbers of dimensions in ``dims``, or ValueError."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {getattr(value, 'dtype', type(value))}")
    if value.numel() == 0:
        raise ValueError(f"{name} is empty: it has shape {tuple(value.shape)}")
    if value.dim() not in dims:
        raise ValueError(f"{name} must have {' or '.join(map(str, dims))} dimensions, got shape {tuple(value.shape)}")
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value)


def scale(name: str, value: Any, *, positive: bool = False) -> nn.Parameter:
    """A number or a tensor as a finite parameter, scalar or ``[C]``, ``positive`` everywhere if asked for."""
    found = parameter(name, value if isinstance(value, Tensor) else torch.tensor(float(value)), dims=(0, 1))
    if not bool(found.isfinite().all()) or (positive and not bool((found > 0).all())):
        extremes = f"values from {found.min().item():g} to {found.max().item():g}"
        raise ValueError(f"{name} must be {'positive and ' * positive}finite everywhere, got {extremes}")
    return found


def optional(name: str, value: object, **limits: Any) -> Any:
    """``value`` as what ``check`` makes of it, or None."""
    check = limits.pop("check")
    return None if value is None else check(name, value, **limits)


def check_length(name: str, vector: Tensor | None, length: int) -> None:
    """Raises ValueError unless the vector, where there is one, has this length."""
    if vector is not None and len(vector) != length:
        raise ValueError(f"{name} must have shape ({length},), got {tuple(vector.shape)}")


def per_channel(vector: Tensor, like: Tensor, axis: int = 1) -> Tensor:
    """Views ``vector`` (scalar or ``[C]``) so that it broadcasts along ``axis`` of ``like``."""
    if vector.dim() == 0:
        return vector
    shape = [1] * like.dim()
    shape[axis] = -1
    return vector.view(shape)


class NumberOrTensor:
    """What type checkers know of a field that is given as either and held as a parameter."""

    def __get__(self, op: object, owner: object = None) -> nn.Parameter:
        raise NotImplementedError

    def __set__(self, op: object, value: float | Tensor) -> None:
        raise NotImplementedError


def default(value: float) -> Any:
    """The default of a ``NumberOrTensor``."""
    return value


Flag = Annotated[bool, flag]
Number = Annotated[float, number]
Integer = Annotated[int, integer]
Positive = Annotated[int, partial(integer, low=1)]
Axis = Annotated[int, partial(integer, low=1, high=8)]  # of one image: the batch is axis 0
Axes = Annotated[tuple[int, ...], partial(integers, low=1, high=8)]
Levels = Annotated[int | None, partial(optional, check=integer, low=1, high=MOST_LEVELS)]
Ceiling = Annotated[float | None, partial(optional, check=number, above=0.0)]
Pair = Annotated[tuple[int, int], partial(integers, count=2)]
PositivePair = Annotated[tuple[int, int], partial(integers, count=2, low=1)]
Weight = Annotated[Tensor, parameter]
OptionalWeight = Annotated[Tensor | None, partial(optional, check=parameter)]
OptionalVector = Annotated[Tensor | None, partial(optional, check=parameter, dims=(1,))]
PerChannel = Annotated[NumberOrTensor, scale]
Threshold = Annotated[NumberOrTensor, partial(scale, positive=True)]
