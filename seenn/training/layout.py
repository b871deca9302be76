"""Where a batch lies while it is trained on: its device, and the order of its axes in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seenn.batch import Batch


def fastest_layout(module: nn.Module) -> torch.memory_format:
    """Channels last, in which convolutions train fastest, but for modules whose backward pass it would crash.

    The gradient of a 1×1 convolution with a stride and fewer than 16 input channels is written past the end of its
    memory by oneDNN (torch 2.14.1) where channels come last.
    """
    for part in module.modules():
        weight, strided = getattr(part, "weight", None), getattr(part, "stride", 1) not in (1, (1, 1))
        if strided and isinstance(weight, Tensor) and weight.shape[2:] == (1, 1) and weight.shape[1] < 16:
            return torch.contiguous_format
    return torch.channels_last


def placed(batch: Batch, device: torch.device | str, layout: torch.memory_format) -> Batch:
    """``batch`` with its labels on ``device``; constant images ``[B, C, H, W]`` in ``layout``, frames as they are."""
    inputs = batch.inputs.to(device)
    if inputs.dim() == 4 and not batch.is_sequence:
        inputs = inputs.to(memory_format=layout)
    return Batch(inputs, None if batch.labels is None else batch.labels.to(device), batch.is_sequence)
