"""Training shared by several processes: averaged gradients, and normalisation over the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seenn.core.ops import BatchNorm
from seenn.distributed import World

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, BatchNorm)


@contextmanager
def one_of_many(module: nn.Module, device: torch.device, here: World) -> Iterator[nn.Module]:
    """``module`` as this process's share of it: gradients and batch statistics are those of the whole batch.

    torch's own SyncBatchNorm needs a GPU; this one sums with whatever backend there is.
    """
    if here.size == 1:
        yield module
        return
    norms = [part for part in module.modules() if isinstance(part, NORMS)]
    for norm in norms:
        norm.forward = _Synced(norm)  # type: ignore[method-assign, assignment]
    try:
        yield DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
    finally:
        for norm in norms:
            del norm.forward


class _Synced:
    """The forward pass of a batch normalisation with statistics over all processes."""

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.usual = norm.forward

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not norm.training:
            result: Tensor = self.usual(x)
            return result
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        count = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _Sum.apply(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            if getattr(norm, "num_batches_tracked", None) is not None:
                norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum)
        y = centred * torch.rsqrt(variance + norm.eps).view(shape)
        if norm.weight is not None:
            y = y * norm.weight.view(shape)
        if norm.bias is not None:
            y = y + norm.bias.view(shape)
        return y  # type: ignore[no-any-return]


class _Sum(torch.autograd.Function):
    """The sum over the processes; each one's gradient is the sum of what arrives at all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total
