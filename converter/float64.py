"""Running a model in float64, also where its code says float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside, tensors that a model makes as it runs are float64, and its casts to float32 do not round."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _CastsToFloat64():
            yield
    finally:
        torch.set_default_dtype(before)


class _CastsToFloat64(TorchFunctionMode):
    """Float32, a model's usual precision, is float64 wherever a call names it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            return args[0].double()

        def widened(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        return func(*map(widened, args), **{key: widened(value) for key, value in (kwargs or {}).items()})
