"""The reference engine behind the same seam as the fast ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork
from seenn.core.ops import State
from seenn.runtime.lowering.program import InputScale
from seenn.runtime.slots import SlotObserver, check_memory


class ReferenceEngine:
    """``SpikingNetwork.advance`` on rows; see ``seenn.runtime.Engine``."""

    name = "reference"
    exact = False
    note = "the network's own float arithmetic"
    max_timesteps: int | None = None
    input_scale: InputScale | None = None

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.input_shape = network.input_shape
        self.device = network.device

    def open(self, slots: int) -> ReferenceSlots:
        """Slots with all memory that they need."""
        size = next(self.network.parameters()).element_size()
        check_memory(slots, 2 * size * sum(math.prod(shape) for shape in self.network.shapes.values()), self.device)
        return ReferenceSlots(self.network, slots)


class ReferenceSlots:
    """See ``seenn.runtime.Slots``."""

    def __init__(self, network: SpikingNetwork, capacity: int) -> None:
        self.capacity = capacity
        self._network = network
        self._current: State = ()
        self._state: State = ()
        self._total = torch.zeros(0)
        self._new = torch.zeros(capacity, dtype=torch.bool)  # whose initial steps are still to come

    def load(self, rows: Tensor, inputs: Tensor) -> None:
        with torch.no_grad():
            current = self._network.encode(inputs.to(self._network.device))
            state = self._network.initial_state(len(inputs), inputs.dtype)
            total = inputs.new_zeros(
                len(inputs), *self._network.shapes[self._network.graph.output], device=self._network.device
            )
            if not self._current:
                self._current, self._state, (self._total,) = (
                    tuple(tensor.new_zeros(self.capacity, *tensor.shape[1:]) for tensor in group)
                    for group in (current, state, (total,))
                )
            old = (*self._current, *self._state, self._total)
            for tensor, new in zip(old, (*current, *state, total), strict=True):
                tensor[rows] = new
            self._new[rows] = bool(self._network.initial_steps)

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        with torch.no_grad():
            for tensor, new in zip(self._current, self._network.encode(inputs.to(self._network.device)), strict=True):
                tensor[rows] = new

    def step(self, active: int, observe: SlotObserver | None = None) -> Tensor:
        with torch.no_grad():
            self._start(self._new[:active].nonzero().squeeze(1), observe)
            current, before = (tuple(tensor[:active] for tensor in group) for group in (self._current, self._state))
            see = None if observe is None else lambda site, counts: observe(site, 0, counts)
            output, after = self._network.advance(current, before, see)
            for tensor, new in zip(before, after, strict=True):
                tensor.copy_(new)
            return self._total[:active].add_(output).clone()

    def keep(self, rows: Tensor) -> None:
        for tensor in (*self._current, *self._state, self._total, self._new):
            tensor[: len(rows)] = tensor[rows]

    def _start(self, rows: Tensor, observe: SlotObserver | None) -> None:
        """The initial steps of these rows, in their first step."""
        if len(rows) == 0:
            return

        def see(site: str, counts: Tensor) -> None:
            assert observe is not None
            for row, count in zip(rows.tolist(), torch.split(counts, 1), strict=True):
                observe(site, row, count)

        started = self._network.start(tuple(t[rows] for t in self._current), None if observe is None else see)
        for tensor, new in zip(self._state, started, strict=True):
            tensor[rows] = new
        self._new[rows] = False
