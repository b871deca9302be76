"""One process of several that share the work: who this is, its part of a batch, and sums over all.

Several processes are started by ``torchrun``; without it there is one, and nothing here communicates.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from seenn.errors import DataError


@dataclass(frozen=True)
class World:
    """This process among ``size`` of them; rank 0 is the one that writes files and talks."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's share of ``count`` things: consecutive, and at most one more than any other's."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def batches(self, count: int, size: int) -> slice:
        """This process's share of ``count`` samples in whole batches of ``size``, so that results do not depend on it.

        Raises:
            DataError: there are fewer batches than processes.
        """
        total = -(-count // size)
        self.enough(total, f"{count} samples in batches of {size}")
        mine = self.part(total)
        return slice(mine.start * size, min(mine.stop * size, count))

    def enough(self, batches: int, what: str) -> None:
        """Raises DataError where there are fewer ``batches`` than processes."""
        if batches < self.size:
            raise DataError(
                f"{what} are {batches} for {self.size} processes, of which some would have nothing to do: start fewer "
                "processes, or use smaller batches"
            )

    def takes(self, number: int) -> bool:
        """Whether this process does batch ``number``, where nobody knows how many will come: they take turns."""
        return number % self.size == self.rank

    def sum_(self, tensor: Tensor) -> Tensor:
        """``tensor`` summed over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """The elementwise maximum over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def cat(self, tensor: Tensor, axis: int = 0) -> Tensor:
        """Every process's ``tensor``, joined along ``axis`` in the order of the ranks; its lengths may differ."""
        if self.size == 1:
            return tensor
        if axis:
            return self.cat(tensor.transpose(0, axis).contiguous()).transpose(0, axis).contiguous()
        count = torch.zeros(self.size, dtype=torch.int64, device=tensor.device)
        count[self.rank] = len(tensor)
        lengths = self.sum_(count).tolist()
        padded = tensor.new_zeros(max(lengths), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, lengths, strict=True)])

    def in_order(self, tensor: Tensor, numbers: Tensor) -> Tensor:
        """Every process's ``tensor`` ``[n, ...]``, joined in the order of the rows' ``numbers`` ``[n]``."""
        return self.cat(tensor)[self.cat(numbers).argsort()] if self.size > 1 else tensor

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.size > 1:
            dist.barrier()


def world() -> World:
    """The processes that take part; one where :func:`joined` was not entered."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that ``torchrun`` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def own_device(device: torch.device) -> torch.device:
    """This process's GPU, where several processes share a machine's."""
    if device == torch.device("cuda") and started_by_torchrun():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def joined(device: torch.device | str = "cpu") -> Iterator[World]:
    """Joins the processes that ``torchrun`` started (gloo on the CPU, nccl on GPUs), and leaves them at the end.

    Leaving ends the group's threads, which needs that nothing refers to the group any more: a thread that outlives it
    takes the process down when it lets go of a tensor while Python shuts down.
    """
    if not started_by_torchrun() or dist.is_initialized():
        yield world()
        return
    # Its default arguments are the group of the moment of its import, which they would keep for good.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo")
    try:
        yield world()
    finally:
        gc.collect()
        dist.destroy_process_group()
