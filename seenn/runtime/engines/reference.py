"""The reference engine: the network's own float arithmetic, which every other engine is held to."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork, evaluating
from seenn.core.ops import State
from seenn.runtime.engine import ENGINES, EngineKind, EngineOptions
from seenn.runtime.slots import Engine, SlotObserver, Slots, check_memory


class ReferenceEngine(Engine):
    """``SpikingNetwork.advance`` on rows, in evaluation mode; see ``seenn.runtime.slots.Engine``."""

    name = "reference"
    note = "the network's own float arithmetic"

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.input_shape = network.input_shape
        self.initial_steps = network.initial_steps
        self.no_frames = network.no_frames
        self.device = network.device

    def open(self, slots: int) -> ReferenceSlots:
        size = self.network.dtype.itemsize
        check_memory(slots, 2 * size * sum(math.prod(shape) for shape in self.network.shapes.values()), self.device)
        return ReferenceSlots(self.network, slots)


class ReferenceSlots(Slots):
    """See ``seenn.runtime.slots.Slots``."""

    def __init__(self, network: SpikingNetwork, capacity: int) -> None:
        self.capacity = capacity
        self._network = network
        with torch.no_grad():
            self._current = network.no_current(capacity)
            self._state = network.initial_state(capacity, network.dtype)
        shape = (capacity, *network.shapes[network.graph.output])
        self._total = torch.zeros(shape, dtype=network.dtype, device=network.device)
        self._new = torch.zeros(capacity, dtype=torch.bool)  # whose initial steps are still to come

    def load(self, rows: Tensor, inputs: Tensor) -> None:
        self.feed(rows, inputs)
        rows = rows.to(self._network.device)
        with torch.no_grad():
            for tensor, new in zip(
                self._state, self._network.initial_state(len(rows), self._network.dtype), strict=True
            ):
                tensor[rows] = new
        self._total[rows] = 0
        self._new[rows.cpu()] = self._network.initial_steps > 0

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        network = self._network
        with torch.no_grad(), evaluating(network):
            current = network.encode(inputs.to(network.device, network.dtype))
            for tensor, new in zip(self._current, current, strict=True):
                tensor[rows.to(network.device)] = new

    def step(self, active: int, observe: SlotObserver | None = None) -> Tensor:
        with torch.no_grad(), evaluating(self._network):
            self._initialise(self._new[:active].nonzero().squeeze(1), observe)
            current, before = (tuple(tensor[:active] for tensor in group) for group in (self._current, self._state))
            see = None if observe is None else lambda site, counts: observe(site, 0, counts)
            output, after = self._network.advance(current, before, see, in_place=True)
            for tensor, new in zip(before, after, strict=True):
                if new.data_ptr() != tensor.data_ptr():
                    tensor.copy_(new)
            return self._total[:active].add_(output).clone()

    def keep(self, rows: Tensor) -> None:
        there = rows.to(self._network.device)
        for tensor in (*self._current, *self._state, self._total):
            tensor[: len(rows)] = tensor[there]
        self._new[: len(rows)] = self._new[rows]

    def _initialise(self, rows: Tensor, observe: SlotObserver | None) -> None:
        """The initial steps of these rows, before their first that answers."""
        if len(rows) == 0:
            return
        there = rows.to(self._network.device)
        see = None if observe is None else partial(_row_by_row, observe, rows)
        started: State = self._network.start(tuple(t[there] for t in self._current), see)
        for tensor, new in zip(self._state, started, strict=True):
            tensor[there] = new
        self._new[rows] = False


def _row_by_row(observe: SlotObserver, rows: Tensor, site: str, counts: Tensor) -> None:
    for row, count in zip(rows.tolist(), torch.split(counts, 1), strict=True):
        observe(site, row, count, initial=True)


class _Reference(EngineKind):
    preference = 0

    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        return ReferenceEngine(network)


ENGINES.register("reference")(_Reference())
