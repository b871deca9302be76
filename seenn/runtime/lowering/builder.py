"""Values to buffers: where a sum has to be computed, it gets a place, a scale, and an instruction that fills it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from seenn.runtime.lowering.program import Buffer, Compute, GainTerm, Instruction, Life, Sum, SynapseTerm, Term
from seenn.runtime.lowering.scales import Scale, ScaledSum, Use
from seenn.runtime.lowering.values import Value, along, spread

FEW_PRODUCTS = 16  # of a result that is computed in less time than a number of main memory is read


class Builder:
    """Buffers and instructions as they come to be; nodes that nothing moves go to ``encode``, the rest to ``step``."""

    def __init__(self, scales: Scale) -> None:
        self.scales = scales
        self.buffers: dict[str, Buffer] = {}
        self.encode: list[Instruction] = []
        self.step: list[Instruction] = []

    def computed(
        self,
        name: str,
        value: Value,
        *,
        varies: int | Literal["anywhere"] | None = "anywhere",
        closed: bool = False,
        real: bool = False,
    ) -> Value:
        """The value as a multiple of one buffer, its constant beside it.

        Args:
            varies: the axis along which what a unit is worth may vary; None for no axis.
            closed: the constant goes into the buffer, and no unit is negative.
            real: a unit is worth 1.
        """
        done = value.buffer
        if done is not None and _varies_along(done.gain, varies):
            inside = value.constant is None and bool((done.gain > 0).all())
            if (inside or not closed) and not (real and bool((done.gain != 1).any())):
                return value
        summed = value if closed else replace(value, constant=None)
        axis = varies if isinstance(varies, int) else None
        life = self.life(t.source for t in value.terms)
        found = self.scales.scaled_sum(  # what is constant will be added up over all steps, in some membrane
            name, summed, self.buffers, Use(axis=axis, uniform=varies is None, steps=life == "constant")
        )
        free = name if name not in self.buffers else f"{name}.sum"
        target = self.buffer(free, value.shape, life, -found.down, found.up)
        (self.encode if life == "constant" else self.step).append(
            Sum(target=target, terms=found.terms, constant=found.constant, accumulate=False)
        )
        unit = GainTerm(source=target, gain=found.scale.expand(value.shape))
        return Value(shape=value.shape, terms=(unit,), constant=None if closed else value.constant)

    def current(self, name: str, found: ScaledSum, shape: tuple[int, ...]) -> ScaledSum:
        """What stays constant in a current is summed up once an image; the rest in every step.

        So is what takes longer to read than to compute.
        """
        still = tuple(t for t in found.terms if self.buffers[t.source].life == "constant" and not _is_short(t))
        if not still:
            return found
        current = self.buffer(f"{name}.constant", shape, "constant", -math.inf, math.inf)
        self.encode.append(Sum(target=current, terms=still, constant=found.constant, accumulate=False))
        moving = tuple(t for t in found.terms if t not in still)
        all_of_it = GainTerm(source=current, gain=torch.ones((1,) * len(shape), dtype=torch.float64))
        return replace(found, terms=(all_of_it, *moving), constant=None)

    def output(self, name: str, value: Value, steps: bool) -> tuple[str, float]:
        """The buffer of a step's scores at an exit, and what a unit of it is worth; ``steps``: they are added up."""
        found = self.scales.scaled_sum(name, value, self.buffers, Use(uniform=True, wide=True, steps=steps))
        buffer = self.buffer(name, value.shape, "scratch", -found.down, found.up, dtype=found.dtype)
        self.step.append(Sum(target=buffer, terms=found.terms, constant=found.constant, accumulate=False))
        return buffer, float(found.scale.max())

    def like(self, name: str, shape: tuple[int, ...], sources: Sequence[str], factor: float = 1.0) -> str:
        """A buffer for what moves or adds values of ``sources``."""
        low = min(self.buffers[name].low for name in sources) * factor
        high = max(self.buffers[name].high for name in sources) * factor
        return self.buffer(name, shape, self.life(sources), low, high)

    def reach(self, source: str) -> float:
        """The largest magnitude in a buffer."""
        return max(abs(self.buffers[source].low), abs(self.buffers[source].high))

    def life(self, sources: Iterable[str]) -> Life:
        """Constant where all sources are."""
        return "constant" if all(self.buffers[name].life == "constant" for name in sources) else "scratch"

    def emit(self, instruction: Compute) -> None:
        """Once an image where it can be, else in every step."""
        constant = self.buffers[instruction.target].life == "constant"
        (self.encode if constant else self.step).append(instruction)

    def buffer(
        self,
        name: str,
        shape: tuple[int, ...],
        life: Life,
        low: float,
        high: float,
        start: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        carry: Callable[[Tensor], Tensor] | None = None,
    ) -> str:
        """A new buffer; returns its name."""
        assert name not in self.buffers, name
        self.buffers[name] = Buffer(
            name=name, shape=shape, life=life, low=low, high=high, start=start, carry=carry, dtype=dtype
        )
        return name


def of(name: str, shape: tuple[int, ...], gain: Tensor | None = None) -> Value:
    """A buffer, a unit of each channel worth ``gain``."""
    each = torch.ones((), dtype=torch.float64) if gain is None else along(gain, 0, len(shape))
    return Value(shape=shape, terms=(GainTerm(source=name, gain=each.expand(shape)),), constant=None)


def _is_short(term: Term) -> bool:
    """Whether each result is of a few products, so that keeping it for every sample costs more time than it saves."""
    return isinstance(term, SynapseTerm) and term.weight[0].numel() <= FEW_PRODUCTS


def _varies_along(gain: Tensor, axis: int | Literal["anywhere"] | None) -> bool:
    if axis == "anywhere":
        return True
    lowest, highest = spread(gain, axis) if axis is not None else (gain.min(), gain.max())
    return torch.allclose(lowest, highest, rtol=1e-12, atol=0.0)
