"""Running a model in one precision, also where its code names a narrower one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
#: Those that are learned have a factor for gradients behind.
_PER_TENSOR = (torch.fake_quantize_per_tensor_affine, torch._fake_quantize_learnable_per_tensor_affine)
_PER_CHANNEL = (torch.fake_quantize_per_channel_affine, torch._fake_quantize_learnable_per_channel_affine)


@contextmanager
def computing_in(precision: torch.dtype) -> Iterator[None]:
    """Inside, tensors that a model makes as it runs are of this precision, and its casts do not round further."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(precision)
    try:
        with _Widened(precision):
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def rounding_up() -> Iterator[None]:
    """Inside, halves are rounded up, as neurons do, and not to even; to be entered before ``computing_in``."""
    with _HalvesUp():
        yield


class _HalvesUp(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.round, Tensor.round, Tensor.round_) and args and not (kwargs or {}).get("decimals", 0):
            up = (args[0] + 0.5).floor()
            return args[0].copy_(up) if func is Tensor.round_ else up
        return func(*args, **(kwargs or {}))


class _Widened(TorchFunctionMode):
    """What is narrower than a precision is of that precision, wherever a call names it."""

    def __init__(self, precision: torch.dtype) -> None:
        super().__init__()
        self._precision = precision
        self._narrower = tuple(kind for kind in _FLOATS if kind.itemsize < precision.itemsize)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.half, Tensor.bfloat16) or (func is Tensor.float and torch.float32 in self._narrower):
            return args[0].to(self._precision)
        if func in _PER_TENSOR and self._precision is torch.float64:
            return _fake_quantised(*args[:5], **(kwargs or {}))
        if func in _PER_CHANNEL and self._precision is torch.float64:
            x, scale, zero_point, axis, *limits = args
            return _fake_quantised(x.movedim(axis, -1), scale, zero_point, *limits[:2]).movedim(-1, axis)

        mixed = any(isinstance(value, Tensor) and value.dtype == self._precision for value in args)

        def widened(value: Any) -> Any:
            if isinstance(value, torch.dtype) and value in self._narrower:
                return self._precision
            if mixed and isinstance(value, Tensor) and value.dtype in self._narrower:
                return value.to(self._precision)  # a tensor that is no parameter and no buffer, as a global one
            return value

        return func(*map(widened, args), **{key: widened(value) for key, value in (kwargs or {}).items()})


def _fake_quantised(x: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Tensor:
    """Fake quantisation with scales in float32, as torch has them, but without its rounding of what it returns."""
    scale = (
        float(torch.tensor(scale, dtype=torch.float32)) if isinstance(scale, int | float) else scale.float().double()
    )
    levels = ((x / scale).round() + zero_point).clamp(quant_min, quant_max)
    found: Tensor = (levels - zero_point) * scale
    return found
