"""The seam behind which engines differ: slots that hold running samples, each at its own timestep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from seenn.device import available_memory
from seenn.errors import SeennError
from seenn.runtime.lowering.program import InputScale

#: ``(site, first row, spike counts of the rows from there)``.
SlotObserver = Callable[[str, int, Tensor], None]


class Slots(Protocol):
    """Places for running samples. Samples do not see each other, nor how many there are."""

    capacity: int

    def load(self, rows: Tensor, inputs: Tensor) -> None:
        """Starts ``inputs`` ``[k, C, H, W]`` afresh in the slots ``rows``, int64 ``[k]``.

        Raises:
            ValueError: an image that the engine cannot run; then nothing has changed.
        """

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        """New inputs ``[k, C, H, W]`` for the samples that run in the slots ``rows``: the next frame of each.

        Raises:
            ValueError: as for ``load``.
        """

    def step(self, active: int, observe: SlotObserver | None = None) -> Tensor:
        """One timestep of the first ``active`` slots: their outputs summed since they were loaded, ``[active, K]``."""

    def keep(self, rows: Tensor) -> None:
        """Moves the samples in ``rows`` to the front, in this order; the others are forgotten."""


class Engine(Protocol):
    """Runs one network.

    Attributes:
        name: ``reference``, ``float32``, ``bfloat16`` or ``int8``.
        exact: the same image gives the same spikes, whatever the batch, slot, order or number of threads.
        note: how it runs, in a few words.
        max_timesteps: the most steps that it may run; None for any.
        input_scale: the fixed-point scale to which inputs are rounded; None: they are taken as they are.
    """

    name: str
    exact: bool
    note: str
    max_timesteps: int | None
    input_shape: tuple[int, ...]
    input_scale: InputScale | None
    device: torch.device

    def open(self, slots: int) -> Slots:
        """Slots with all memory that they need.

        Raises:
            SeennError: this machine has not enough memory for them.
        """


def check_memory(slots: int, bytes_per_slot: int, device: torch.device) -> None:
    """Refuses more slots than memory allows, before any of it is taken.

    Raises:
        SeennError: with the most that would fit.
    """
    available = available_memory(device)
    if available is not None and slots * bytes_per_slot > available:
        raise SeennError(
            f"{slots} slots need {slots * bytes_per_slot / 2**20:,.0f} MiB ({bytes_per_slot / 2**20:.2f} MiB each), "
            f"but {available / 2**20:,.0f} MiB are available: use at most {available // bytes_per_slot} slots"
        )
