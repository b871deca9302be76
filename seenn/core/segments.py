"""A step in parts: what is computed up to each of its exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seenn.core.graph import Node, prune


@dataclass(frozen=True)
class Segment:
    """What an exit takes beyond the exit before it.

    Attributes:
        nodes: in execution order.
        output: the exit's scores.
        gives: the values, of this segment and of those before, that later ones read.
    """

    nodes: tuple[Node, ...]
    output: str
    gives: tuple[str, ...]


def in_segments(body: Sequence[Node], exits: Sequence[str]) -> tuple[Segment, ...]:
    """The nodes of a step, each in the segment of the first exit that needs it; in the last one if none does.

    Raises:
        ValueError: an exit that needs nothing beyond the exits before it.
    """
    taken: set[str] = set()
    parts: list[list[Node]] = []
    for name in exits:
        needed = body if name == exits[-1] else prune(body, name)
        parts.append([node for node in needed if node.name not in taken])
        taken.update(node.name for node in parts[-1])
        if len(exits) > 1 and name not in {node.name for node in parts[-1]}:
            raise ValueError(f"the exit {name!r} of {', '.join(exits)} needs nothing beyond those before it")
    segments = []
    for number, part in enumerate(parts):
        read = {name for later in parts[number + 1 :] for node in later for name in node.inputs}
        made = [node.name for before in parts[: number + 1] for node in before]
        segments.append(Segment(tuple(part), exits[number], tuple(name for name in made if name in read)))
    return tuple(segments)
