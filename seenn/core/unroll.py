"""A network over all its timesteps at once, node by node: how networks are trained from scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seenn.core.graph import Node, schedule
from seenn.core.ops import StatefulOp


def apart(merged: Tensor, timesteps: int) -> Tensor:
    """``[T·B, ...]`` as ``[T, B, ...]``."""
    return merged.view(timesteps, len(merged) // timesteps, *merged.shape[1:])


@dataclass(frozen=True)
class Piece:
    """Nodes that run one after the other, over all timesteps."""

    nodes: tuple[Node, ...]
    reads: tuple[str, ...]  # values from before it
    gives: tuple[str, ...]  # values that are read after it

    def run(
        self,
        values: Sequence[Tensor],
        timesteps: int,
        once: frozenset[str],
        observe: Callable[[str, Tensor], None] | None = None,
    ) -> tuple[Tensor, ...]:
        """``gives`` from ``reads``: values ``[T·B, ...]``, of those in ``once`` ``[B, ...]``, the same at every step.

        What has no memory sees one batch of ``T·B``. ``observe`` is given each neuron's name and outputs.
        """
        known = dict(zip(self.reads, values, strict=True))

        def spread(name: str) -> Tensor:  # [T, B, ...]
            value = known[name]
            if name in once:
                return value.unsqueeze(0).expand(timesteps, *value.shape)
            return apart(value, timesteps)

        for node, done in schedule(self.nodes, self.gives):
            if isinstance(node.op, StatefulOp):
                inputs = tuple(map(spread, node.inputs))
                output, _ = node.op.unroll(inputs, node.op.initial_state(*(x[0] for x in inputs)))
                if observe is not None and node.op.fires:
                    observe(node.name, output)
                known[node.name] = output.flatten(0, 1)
            else:
                merged = (spread(name).flatten(0, 1) if name in once else known[name] for name in node.inputs)
                known[node.name] = node.op(*merged)
            for name in done:
                del known[name]
        return tuple(known[name] for name in self.gives)

    def run_saving_memory(self, values: Sequence[Tensor], timesteps: int, once: frozenset[str]) -> tuple[Tensor, ...]:
        """``run``, of which the backward pass remembers ``values`` only: it computes the rest anew."""

        def compute(*values: Tensor) -> tuple[Tensor, ...]:
            return self.run(values, timesteps, once)

        found: tuple[Tensor, ...] = checkpoint(
            compute, *values, use_reentrant=False, context_fn=lambda: (nullcontext(), _as_before(self.nodes))
        )
        return found


def in_pieces(
    nodes: Sequence[Node], outputs: Sequence[str], shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[Piece, ...]:
    """``nodes`` as one piece, or divided as ``run_saving_memory`` needs least memory, for values of these ``shapes``.

    Pieces end behind neurons. What is remembered at most is taken to be all that passes from piece to piece, and
    the values of the largest piece.
    """
    if shapes is None:
        return _divide(nodes, outputs, [nodes])
    sizes = {node.name: math.prod(shapes[node.name]) for node in nodes}
    best: tuple[float, tuple[Piece, ...]] = (math.inf, ())
    for count in range(1, 1 + max(1, sum(isinstance(node.op, StatefulOp) for node in nodes))):
        parts = _divide(nodes, outputs, _cut(nodes, sizes, count))
        passed = sum(sizes[name] for part in parts for name in part.gives)
        peak = passed + max(sum(sizes[node.name] for node in part.nodes) for part in parts)
        best = min(best, (peak, parts), key=lambda found: found[0])
    return best[1]


def _cut(nodes: Sequence[Node], sizes: Mapping[str, int], count: int) -> list[Sequence[Node]]:
    """About ``count`` runs of nodes of about the same size."""
    share, parts, first, size = sum(sizes.values()) / count, [], 0, 0
    for index, node in enumerate(nodes, 1):
        size += sizes[node.name]
        if index == len(nodes) or (size >= share and isinstance(node.op, StatefulOp)):
            parts.append(nodes[first:index])
            first, size = index, 0
    return parts


def _divide(nodes: Sequence[Node], outputs: Sequence[str], parts: Sequence[Sequence[Node]]) -> tuple[Piece, ...]:
    last = {name: index for index, part in enumerate(parts) for node in part for name in node.inputs}
    last |= dict.fromkeys(outputs, len(parts))
    pieces = []
    for index, part in enumerate(parts):
        made = [node.name for node in part]
        read = dict.fromkeys(name for node in part for name in node.inputs)
        reads = tuple(name for name in read if name not in made)
        pieces.append(Piece(tuple(part), reads, tuple(name for name in made if last.get(name, -1) > index)))
    return tuple(pieces)


def _as_before(nodes: Sequence[Node]) -> AbstractContextManager[None]:
    """A context in which ops have the buffers of now (running statistics), and afterwards those of then.

    What is computed anew in it is bit for bit what was computed before, and nothing is learned from it twice.
    """
    parts = [part for node in nodes for part in node.op.modules() if part._buffers]
    before = [{name: value.clone() for name, value in part.named_buffers(recurse=False)} for part in parts]

    @contextmanager
    def inside() -> Iterator[None]:
        after = [dict(part.named_buffers(recurse=False)) for part in parts]
        for part, values in zip(parts, before, strict=True):
            part._buffers.update({name: value.clone() for name, value in values.items()})
        try:
            yield
        finally:
            for part, values in zip(parts, after, strict=True):
                part._buffers.update(values)

    return inside()
