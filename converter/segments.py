"""A graph in segments, each up to the next site, and its values between them: what calibration sweeps through."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.spill import Series, Spill
from seenn.core.graph import Node, OpGraph, prune, schedule
from seenn.core.ops import Activation, CumulativeDifference, IncrementalProduct, IntegratingNeuron, StatelessOp
from seenn.core.unroll import apart

_ALL = slice(None)


@dataclass(frozen=True)
class Segment:
    """What a site needs and no earlier one did: nodes in execution order, the site last.

    Attributes:
        reads: values of earlier segments, and the input.
        gives: its values that later segments read.
        done: values that nobody reads after it.
    """

    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    done: tuple[str, ...]

    @property
    def site(self) -> Node:
        """The activation at its end."""
        return self.nodes[-1]


def segments(graph: OpGraph) -> list[Segment]:
    """One for each site of an ANN graph, in order. What no site needs is in none."""
    parts: list[tuple[Node, ...]] = []
    known: set[str] = set()
    for site in graph:
        if isinstance(site.op, Activation):
            parts.append(tuple(n for n in prune(graph.nodes, site.name) if n.name not in known))
            known.update(node.name for node in parts[-1])
    last = {name: number for number, part in enumerate(parts) for node in part for name in node.inputs}
    found = []
    for number, part in enumerate(parts):
        own = [node.name for node in part]
        reads = {name: None for node in part for name in node.inputs if name not in own}
        gives = tuple(name for name in own if last.get(name, number) > number)
        done = tuple(name for name in reads if last[name] == number)
        found.append(Segment(part, tuple(reads), gives, done))
    return found


def changing(graph: OpGraph) -> frozenset[str]:
    """The values that change over time while the input does not: sites, and what they reach."""
    found: set[str] = set()
    for node in graph:
        if isinstance(node.op, Activation) or not found.isdisjoint(node.inputs):
            found.add(node.name)
    return frozenset(found)


@dataclass
class Value:
    """A value for all calibration images, in chunks: of the ANN ``[b, ...]``, and over time ``[T, b, ...]``.

    Of a neuron its counts are kept, which take a byte each.
    """

    analog: Series
    steps: Series
    neuron: IntegratingNeuron | None = None

    def over_time(self, chunk: int, images: slice) -> Tensor:
        """All steps of ``images`` of a chunk."""
        steps = self.steps[chunk][:, images]
        if self.neuron is None:
            return steps
        neuron = self.neuron
        return neuron.emit(steps.flatten(0, 1).to(neuron.v_threshold)).view(steps.shape)


class Values:
    """The values between segments, in a bounded memory, and what a segment makes of them."""

    def __init__(self, graph: OpGraph, spill: Spill, timesteps: int, device: torch.device) -> None:
        """``timesteps`` is T, or 0 where only the ANN's values are asked for."""
        self.changing = changing(graph) if timesteps else frozenset()
        self._spill, self._timesteps, self._device = spill, timesteps, device
        self._values: dict[str, Value] = {}

    def new(self, name: str, neuron: IntegratingNeuron | None = None) -> Value:
        """A place for a value."""
        self._values[name] = Value(Series(self._spill), Series(self._spill), neuron)
        return self._values[name]

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def free(self, names: Iterable[str]) -> None:
        """Forgets values."""
        for name in names:
            value = self._values.pop(name)
            value.analog.close()
            value.steps.close()

    def close(self) -> None:
        """Forgets all."""
        self.free(list(self._values))

    def run(
        self,
        segment: Segment,
        chunk: int,
        wanted: Collection[str],
        *,
        analog: bool = True,
        steps: bool = True,
        images: slice = _ALL,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The ``wanted`` values of a segment before its site, of one chunk: the ANN's, and over time where they change.

        ``analog`` and ``steps``: which of both are asked for, of values that change; ``images``: of the chunk's.
        """
        nodes = segment.nodes[:-1]
        ann: dict[str, Tensor] = {}
        train: dict[str, Tensor] = {}
        for name in segment.reads:
            if analog or name not in self.changing:
                ann[name] = self._values[name].analog[chunk][images].to(self._device)
            if steps and name in self.changing:
                train[name] = self._values[name].over_time(chunk, images).to(self._device)
        for node, done in schedule(nodes, wanted):
            assert isinstance(node.op, StatelessOp)
            if analog or node.name not in self.changing:
                ann[node.name] = node.op(*(ann[name] for name in node.inputs))
            if steps and node.name in self.changing:
                inputs = [train[i] if i in train else repeated(ann[i], self._timesteps) for i in node.inputs]
                train[node.name] = _over_time(node.op, inputs, product=train.keys() >= {*node.inputs})
            for name in done:
                ann.pop(name, None)
                train.pop(name, None)
        return ann, train


def _over_time(op: StatelessOp, inputs: Sequence[Tensor], *, product: bool) -> Tensor:
    """An op on all steps ``[T, b, ...]``, as a spiking network computes it; at once where it needs no memory.

    ``product``: whether a bilinear op's inputs both change over time.
    """
    if op.affine or (op.bilinear and not product):
        return apart(op(*(x.flatten(0, 1) for x in inputs)), len(inputs[0]))
    memory = (IncrementalProduct if op.bilinear else CumulativeDifference)(op)
    return memory.unroll(tuple(inputs), memory.initial_state(*(x[0] for x in inputs)))[0]


def repeated(value: Tensor, timesteps: int) -> Tensor:
    """The same in every step, ``[T, ...]``."""
    return value.expand(timesteps, *value.shape)
