"""The seam behind which engines differ: slots that hold running samples, each at its own timestep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from seenn.device import available_memory
from seenn.errors import SeennError


class SlotObserver(Protocol):
    """Sees the spikes of slots."""

    def __call__(self, site: str, first: int, counts: Tensor, *, initial: bool = False) -> None:
        """``counts`` ``[k, C, ...]`` of the rows that are stepped, from number ``first`` on.

        ``initial``: in a step before the first answer.
        """


class Slots(Protocol):
    """Places for running samples. Samples do not see each other, nor how many there are.

    A sample stands at (timestep, segment): ``step`` takes the samples of one segment of the step to its end. A network
    without exits in depth has one segment.
    """

    capacity: int

    def load(self, rows: Tensor, inputs: Tensor, *, warm: bool = False) -> None:
        """Starts samples in the slots ``rows``, int64 ``[k]``, with ``inputs`` ``[k, C, H, W]``.

        They start afresh; ``warm``, from what those before them in these slots left, see ``SpikingNetwork.warm_state``.

        Raises:
            InputError: an input that the engine cannot run; then nothing has changed.
        """

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        """Gives running samples other inputs from the next step on; their states stay. Raises as ``load``."""

    def step(self, rows: Tensor, segment: int = 1, observe: SlotObserver | None = None) -> Tensor:
        """One segment of a timestep of the slots ``rows``, int64 ``[k]``, rising: their outputs summed, ``[k, K]``.

        Added up are the outputs of the steps since they were loaded, the last of which may have come to a head only.
        """

    def keep(self, rows: Tensor) -> None:
        """Moves the samples in ``rows`` to the front, in this order; the others are forgotten."""


@dataclass(frozen=True)
class StepPart:
    """A part of a step that can be run by itself, in its turn, for a profile.

    Attributes:
        name: the value that it computes.
        rows: how many samples it computes it for.
        run: computes it.
        counts: the spikes of the neurons in it, after it ran; None where none fire.
        macs: multiply-accumulates of its synapses for one sample, were every input dense.
    """

    name: str
    rows: int
    run: Callable[[], None]
    counts: Callable[[], Tensor] | None
    macs: int


@runtime_checkable
class DividedSlots(Slots, Protocol):
    """Slots whose steps consist of parts."""

    def parts(self, active: int) -> Sequence[StepPart]:
        """A step of the first ``active`` slots, or of as many of them as go through the network together."""


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """One synapse after rounding its weights.

    Attributes:
        layer: the node.
        bits: of its weights.
        weight_error: ``‖Ŵ − W‖ / ‖W‖``.
    """

    layer: str
    bits: int
    weight_error: float


@runtime_checkable
class RoundingEngine(Protocol):
    """An engine that rounds weights, and says what that costs."""

    rounding: Sequence[LayerReport]


class Engine(Protocol):
    """Runs one network.

    Attributes:
        name: as in the registry of engines.
        exact: the same input gives the same spikes, whatever the batch, slot, order or number of threads.
        note: how it runs, in a few words.
        max_timesteps: the most steps that it may run; None for any.
        input_shape: ``(C, H, W)``.
        initial_steps: steps that each sample takes before the first that answers.
        exit_costs: the share of a step up to each exit in it: one for each segment of a step, the last is 1.
        no_frames: why the network cannot be run on one frame a timestep; None where it can.
        device: where it computes.
    """

    name: str
    exact: bool = False
    note: str = ""
    max_timesteps: int | None = None
    input_shape: tuple[int, ...]
    initial_steps: int = 0
    exit_costs: Sequence[float] = (1.0,)
    no_frames: str | None = None
    device: torch.device

    def open(self, slots: int) -> Slots:
        """Slots with all memory that they need.

        Raises:
            SeennError: this machine has not enough memory for them.
        """

    def check(self, sample: Tensor) -> None:
        """Raises InputError where one input ``[C, H, W]`` of the right shape cannot be run; most engines run all."""
        return


def check_memory(slots: int, bytes_per_slot: int, device: torch.device) -> None:
    """Refuses more slots than memory allows, before any of it is taken.

    Raises:
        SeennError: with the most that would fit.
    """
    available = available_memory(device)
    if available is not None and slots * bytes_per_slot > available:
        raise SeennError(
            f"{slots} slots need {slots * bytes_per_slot / 2**20:,.0f} MiB ({bytes_per_slot / 2**20:.2f} MiB each), "
            f"but {available / 2**20:,.0f} MiB are available: use at most {available // bytes_per_slot} slots "
            "(--batch-size, in bench --slots)"
        )
