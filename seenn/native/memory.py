"""Tensors as the compiled code reads them: addresses of dense memory."""

from __future__ import annotations

import torch
from torch import Tensor


def address(values: Tensor, dtype: torch.dtype, *, dense: bool) -> int:
    """Where ``values`` lies, if it lies as the compiled code reads it; the caller keeps it alive.

    Raises:
        ValueError: it does not.
    """
    if not (dense and values.dtype == dtype and values.device.type == "cpu"):
        raise ValueError(f"memory of another layout: {values.dtype}, {tuple(values.shape)}, {values.stride()}")
    return values.data_ptr()


def is_dense(values: Tensor) -> bool:
    """Without gaps; channels-last where there are four axes."""
    return values.is_contiguous(memory_format=torch.channels_last if values.dim() == 4 else torch.contiguous_format)
