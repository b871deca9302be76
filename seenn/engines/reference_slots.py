"""The reference engine behind the same seam as the fast ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from seenn.engines.engine import SlotObserver, check_memory
from seenn.graph import Node
from seenn.lowering.program import InputGrid
from seenn.network import SpikingNetwork
from seenn.ops import State, StatefulOp


class ReferenceEngine:
    """``SpikingNetwork.advance`` on rows; see ``seenn.engines.Engine``."""

    name = "reference"
    exact = False
    note = "the network's own float arithmetic"
    max_timesteps: int | None = None
    grid: InputGrid | None = None

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.input_shape = network.input_shape
        self.device = network.device

    def open(self, slots: int) -> ReferenceSlots:
        """Slots with all memory that they need."""
        shapes = self.network.graph.shapes(self.network.input_shape)
        size = next(self.network.parameters()).element_size()
        check_memory(slots, 2 * size * sum(math.prod(shape) for shape in shapes.values()), self.device)
        return ReferenceSlots(self.network, slots)


class ReferenceSlots:
    """See ``seenn.engines.Slots``."""

    def __init__(self, network: SpikingNetwork, capacity: int) -> None:
        self.capacity = capacity
        self._network = network
        self._shapes = network.graph.shapes(network.input_shape)
        self._current: State = ()
        self._state: State = ()
        self._total = torch.zeros(0)

    def load(self, rows: Tensor, images: Tensor) -> None:
        with torch.no_grad():
            current = self._network.encode(images.to(self._network.device))
            state = self._initial(len(images), images.dtype)
            total = images.new_zeros(
                len(images), *self._shapes[self._network.graph.output], device=self._network.device
            )
            if not self._current:
                self._current, self._state, (self._total,) = (
                    tuple(tensor.new_zeros(self.capacity, *tensor.shape[1:]) for tensor in group)
                    for group in (current, state, (total,))
                )
            old = (*self._current, *self._state, self._total)
            for tensor, new in zip(old, (*current, *state, total), strict=True):
                tensor[rows] = new

    def step(self, active: int, observe: SlotObserver | None = None) -> Tensor:
        with torch.no_grad():
            current, before = (tuple(tensor[:active] for tensor in group) for group in (self._current, self._state))
            see = None if observe is None else lambda site, counts: observe(site, 0, counts)
            output, after = self._network.advance(current, before, see)
            for tensor, new in zip(before, after, strict=True):
                tensor.copy_(new)
            return self._total[:active].add_(output).clone()

    def keep(self, rows: Tensor) -> None:
        for tensor in (*self._current, *self._state, self._total):
            tensor[: len(rows)] = tensor[rows]

    def _initial(self, count: int, dtype: torch.dtype) -> State:
        def start(node: Node) -> State:
            assert isinstance(node.op, StatefulOp)
            shapes = (self._shapes[name] for name in node.inputs)
            inputs = (torch.zeros(count, *shape, dtype=dtype, device=self._network.device) for shape in shapes)
            return node.op.initial_state(*inputs)

        stateful = {name for name, _ in self._network.state_layout}
        return tuple(tensor for node in self._network.graph if node.name in stateful for tensor in start(node))
