"""Running a model in float64, also where its code names another precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_NARROWER = (torch.float32, torch.float16, torch.bfloat16)


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside, tensors that a model makes as it runs are float64, and its casts do not round."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _CastsToFloat64():
            yield
    finally:
        torch.set_default_dtype(before)


class _CastsToFloat64(TorchFunctionMode):
    """What is narrower than float64 is that, wherever a call names it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
            return args[0].double()
        if func is torch.fake_quantize_per_tensor_affine:
            return _fake_quantised(*args, **(kwargs or {}))
        if func is torch.fake_quantize_per_channel_affine:
            x, scale, zero_point, axis, *limits = args
            return _fake_quantised(x.movedim(axis, -1), scale, zero_point, *limits).movedim(-1, axis)

        def widened(value: Any) -> Any:
            return torch.float64 if isinstance(value, torch.dtype) and value in _NARROWER else value

        return func(*map(widened, args), **{key: widened(value) for key, value in (kwargs or {}).items()})


def _fake_quantised(x: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Tensor:
    """Fake quantisation with scales in float32, as torch has them, but without its rounding of what it returns."""
    scale = (
        float(torch.tensor(scale, dtype=torch.float32)) if isinstance(scale, int | float) else scale.float().double()
    )
    levels = ((x / scale).round() + zero_point).clamp(quant_min, quant_max)
    found: Tensor = (levels - zero_point) * scale
    return found
