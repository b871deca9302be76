"""Checked conversions of op attributes; what an op accepts is the same from Python and from a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch import Tensor, nn

_LARGEST = 1 << 20  # no kernel, pad, stride or size of a classifier comes near; a hostile file might
_LARGEST_FLOAT = sys.float_info.max


def integer(name: str, value: object, *, low: int = 0, high: int = _LARGEST) -> int:
    """``value`` as an int in [low, high], or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    return value


def integers(name: str, value: object, count: int, *, low: int = 0, high: int = _LARGEST) -> tuple[int, ...]:
    """``value`` (one int, or ``count`` of them) as a tuple of ``count`` ints, or ValueError."""
    if isinstance(value, int):
        value = (value,) * count
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise ValueError(f"{name} must be {count} integers, got {value!r}")
    return tuple(integer(name, item, low=low, high=high) for item in value)


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


def parameter(name: str, value: Tensor, *, dims: int | tuple[int, ...]) -> nn.Parameter:
    """``value`` as a parameter with one of the numbers of dimensions in ``dims``, or ValueError."""
    allowed = (dims,) if isinstance(dims, int) else dims
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a floating-point tensor, got {getattr(value, 'dtype', type(value))}")
    if value.numel() == 0:
        raise ValueError(f"{name} is empty: it has shape {tuple(value.shape)}")
    if value.dim() not in allowed:
        raise ValueError(
            f"{name} must have {' or '.join(map(str, allowed))} dimensions, got shape {tuple(value.shape)}"
        )
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value)


def positive(name: str, value: nn.Parameter) -> nn.Parameter:
    """``value`` if it is positive and finite everywhere, or ValueError."""
    if not bool((value > 0).all()) or not bool(value.isfinite().all()):
        extremes = f"values from {value.min().item():g} to {value.max().item():g}"
        raise ValueError(f"{name} must be positive and finite everywhere, got {extremes}")
    return value


def optional_vector(name: str, value: Tensor | None, length: int) -> nn.Parameter | None:
    """``value`` as a parameter ``[length]``, or None, or ValueError."""
    if value is None:
        return None
    vector = parameter(name, value, dims=1)
    if len(vector) != length:
        raise ValueError(f"{name} must have shape ({length},), got {tuple(vector.shape)}")
    return vector


def per_channel(vector: Tensor, like: Tensor, axis: int = 1) -> Tensor:
    """Views ``vector`` (scalar or ``[C]``) so that it broadcasts along ``axis`` of ``like``."""
    if vector.dim() == 0:
        return vector
    shape = [1] * like.dim()
    shape[axis] = -1
    return vector.view(shape)


def reduce_like(gradient: Tensor, like: Tensor) -> Tensor:
    """Sums ``gradient`` over the axes along which ``like`` was broadcast."""
    return gradient.sum_to_size(like.shape)
