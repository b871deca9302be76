"""How a program's values lie in memory: images with their channels last, all others in the order of their axes.

Convolutions are fastest on the former, matrix products, softmax and what else reads along the last axis on the latter.
"""

from __future__ import annotations

from collections import defaultdict

from seenn.core.ops.base import Rearrangement
from seenn.runtime.lowering.program import Compute, Fire, GainTerm, Program, SynapseTerm

AXES = 3  # of an image, without the batch


def images(program: Program) -> frozenset[str]:
    """The buffers that convolutions meet, and what is added to those or computed from them without moving values."""
    together: dict[str, set[str]] = defaultdict(set)
    left: list[str] = []
    for total in program.sums():
        for term in total.terms:
            if isinstance(term, SynapseTerm) and term.geometry.window is not None:
                left += [total.target, term.source]
            elif isinstance(term, GainTerm):
                together[total.target].add(term.source)
    for instruction in (*program.encode, *program.step):
        moved = isinstance(instruction, Compute) and isinstance(instruction.op, Rearrangement)
        if isinstance(instruction, Fire) or (isinstance(instruction, Compute) and not moved):
            sources = instruction.sources if isinstance(instruction, Compute) else ()
            together[instruction.target].update(sources, instruction.states)
    neighbours: dict[str, set[str]] = defaultdict(set)
    for name, others in together.items():
        for other in others:
            neighbours[name].add(other)
            neighbours[other].add(name)
    found: set[str] = set()
    while left:
        name = left.pop()
        if name not in found and len(program.buffers[name].shape) == AXES:
            found.add(name)
            left.extend(neighbours[name])
    return frozenset(found)
