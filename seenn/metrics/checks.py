"""What every metric asks of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_integers(where: str, name: str, values: Tensor) -> None:
    """Refuses anything but a non-empty integer vector ``[N]``."""
    if values.dtype not in _INTEGERS or values.dim() != 1 or values.numel() == 0:
        raise ValueError(f"{where}: {name} is {values.dtype} {list(values.shape)}; expected integers [N], at least one")


def check_correct(where: str, correct: Tensor) -> None:
    """Refuses anything but a non-empty boolean ``correct`` ``[T, N]``."""
    if correct.dtype != torch.bool or correct.dim() != 2 or correct.numel() == 0:
        raise ValueError(
            f"{where}: correct is {correct.dtype} {list(correct.shape)}; "
            f"expected torch.bool [T, N], at least one timestep and one sample"
        )


def check_finite(where: str, name: str, values: Tensor) -> None:
    """Refuses NaN and infinities."""
    if bad := int((~values.isfinite()).sum()):
        raise ValueError(f"{where}: {bad} of {values.numel()} {name} are NaN or infinite; expected finite values")


def check_fraction(where: str, name: str, value: float) -> None:
    """Refuses anything outside the open interval ``(0, 1)``."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{where}: {name} is {value}; expected a number between 0 and 1, both excluded")
