"""The reference engine: the network's own float arithmetic, which every other engine is held to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import pairwise

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
        self.exit_costs = network.exit_costs
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
        crossing = {name for segment in network.segments for name in segment.gives}
        self._carried = {
            name: torch.zeros(capacity, *network.shapes[name], dtype=network.dtype, device=network.device)
            for name in sorted(crossing)
        }

    def load(self, rows: Tensor, inputs: Tensor, *, warm: bool = False) -> None:
        self.feed(rows, inputs)
        network = self._network
        rows = rows.to(network.device)
        with torch.no_grad():
            left = tuple(tensor[rows] for tensor in self._state)
            started = network.warm_state(left) if warm else network.initial_state(len(rows), network.dtype)
            for tensor, new in zip(self._state, started, strict=True):
                tensor[rows] = new
        self._total[rows] = 0
        self._new[rows.cpu()] = network.initial_steps > 0

    def feed(self, rows: Tensor, inputs: Tensor) -> None:
        network = self._network
        with torch.no_grad(), evaluating(network):
            current = network.encode(inputs.to(network.device, network.dtype))
            for tensor, new in zip(self._current, current, strict=True):
                tensor[rows.to(network.device)] = new

    def step(self, rows: Tensor, segment: int = 1, observe: SlotObserver | None = None) -> Tensor:
        network, number = self._network, segment - 1
        with torch.no_grad(), evaluating(network):
            self._initialise(rows, observe)
            see = None if observe is None else lambda site, counts: observe(site, 0, counts)
            side_by_side = int(rows[-1]) + 1 - int(rows[0]) == len(rows)
            at = slice(int(rows[0]), int(rows[-1]) + 1) if side_by_side else rows.to(network.device)
            carried = {name: self._carried[name][at] for name in network.segments[number - 1].gives} if number else {}
            kept = self._state[network.state_of[number]]
            current, before = (tuple(tensor[at] for tensor in group) for group in (self._current, kept))
            output, given, after = network.advance_segment(number, current, carried, before, see, in_place=True)
            for tensor, old, new in zip(kept, before, after, strict=True):
                if not side_by_side or new.data_ptr() != old.data_ptr():
                    tensor[at] = new
            for name, value in given.items():
                self._carried[name][at] = value
            total = self._total[at].add(output)
            if segment == len(network.segments):
                self._total[at] = total
            return total

    def keep(self, rows: Tensor) -> None:
        there = rows.to(self._network.device)
        for tensor in (*self._current, *self._state, *self._carried.values(), self._total):
            tensor[: len(rows)] = tensor[there]
        self._new[: len(rows)] = self._new[rows]

    def _initialise(self, stepped: Tensor, observe: SlotObserver | None) -> None:
        """The initial steps of these rows, before their first that answers."""
        new = self._new[stepped].nonzero().squeeze(1)
        if len(new) == 0:
            return
        rows = stepped[new]
        there = rows.to(self._network.device)
        see = None if observe is None else partial(_run_by_run, observe, _runs(new))
        started: State = self._network.start(tuple(t[there] for t in self._current), see)
        for tensor, new in zip(self._state, started, strict=True):
            tensor[there] = new
        self._new[rows] = False


def _runs(rows: Tensor) -> dict[int, int]:
    """Rows, ascending, as runs of neighbours: the first of each, and how many they are."""
    ends = [*((rows.diff() != 1).nonzero().squeeze(1) + 1).tolist(), len(rows)]
    return {int(rows[start]): end - start for start, end in pairwise([0, *ends])}


def _run_by_run(observe: SlotObserver, runs: Mapping[int, int], site: str, counts: Tensor) -> None:
    for first, part in zip(runs, torch.split(counts, list(runs.values())), strict=True):
        observe(site, first, part, initial=True)


class _Reference(EngineKind):
    preference = 0

    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        return ReferenceEngine(network)


ENGINES.register("reference")(_Reference())
