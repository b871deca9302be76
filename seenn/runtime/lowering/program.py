"""A lowered network: buffers with bounds, and the instructions that fill them, once an image or once a step.

Sums are linear arithmetic on integers (or, for float engines, on real numbers). Thresholds are folded: a neuron emits
spike *counts*, and what a count is worth is in the weights that it meets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from seenn.core.ops import Geometry, Op, Synapse
from seenn.core.ops.base import Spans
from seenn.data.preprocessing import Preprocessing
from seenn.errors import InputError
from seenn.runtime.slots import LayerReport

EXACT_LIMIT = 1 << 24  # float32 holds every integer up to here
WIDE_LIMIT = 1 << 31  # and int32 all below here

#: constant: set when an image is loaded; state: carried from step to step; scratch: filled anew in every step.
Life = Literal["constant", "state", "scratch"]


@dataclass(frozen=True)
class InputScale:
    """The input's fixed-point scale: ``x = step · X + offset`` per channel, X an integer in [low, high].

    Inputs are rounded to it; those outside its range are refused.
    """

    step: tuple[float, ...]
    offset: tuple[float, ...]
    low: int
    high: int

    @classmethod
    def pixels(cls, preprocessing: Preprocessing) -> InputScale:
        """8-bit pixels, which normalisation has moved and scaled: no rounding at all."""
        return cls(
            step=tuple(1 / (255 * std) for std in preprocessing.std),
            offset=tuple(-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)),
            low=0,
            high=255,
        )

    @classmethod
    def fixed_point(cls, channels: int, *, fraction_bits: int = 7, bound: int = 16) -> InputScale:
        """Any float input: multiples of ``2^-fraction_bits`` up to ``±bound``."""
        scale = 1 << fraction_bits
        return cls(step=(1 / scale,) * channels, offset=(0.0,) * channels, low=-bound * scale, high=bound * scale)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.step, dtype=torch.float64), torch.tensor(self.offset, dtype=torch.float64)

    def quantize(self, images: Tensor) -> Tensor:
        """``X`` for images ``[B, C, ...]``, as integers in the images' type.

        Raises:
            InputError: a value lies outside the range, or is not a number.
        """
        step, offset = (values.to(images.device).view(-1, *[1] * (images.dim() - 2)) for values in self._scale)
        found = ((images.double() - offset) / step).round()
        least, largest = (float(value) for value in found.aminmax())  # NaN where there is one
        if not (self.low <= least and largest <= self.high):
            raise InputError(
                f"images hold values from {images.min().item():g} to {images.max().item():g}, outside the input scale "
                f"of {self.low} to {self.high} steps of {min(self.step):.3g} from {min(self.offset):.3g}: prepare them "
                "as the network's preprocessing says, check them for NaN, or run them with --engine float32"
            )
        return found.to(images.dtype)


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """A value of every sample, ``[B, *shape]``, and the range that it cannot leave."""

    name: str
    shape: tuple[int, ...]
    life: Life
    low: float
    high: float
    start: Tensor | None = None  # state: its value before the first step, broadcastable to ``shape``
    carry: Callable[[Tensor], Tensor] | None = None  # state: what a warm start makes of it; None: as any start
    dtype: torch.dtype = torch.float32  # int32 where float32 may not hold what all steps add up to, float64 one step


@dataclass(frozen=True, kw_only=True, eq=False)
class SynapseTerm:
    """``source`` through weights: ``op.response(source, weight)``; they carry what a unit of the source is worth."""

    layer: str = ""
    source: str
    op: Synapse  # the connectivity
    weight: Tensor  # float64; integers in an integer program
    unit: Tensor | None = None  # [O]: weight / unit fits in int8; None where it does not
    gain: Tensor | None = None  # what a unit of the source is worth, broadcastable to it
    beside: Tensor | None = None  # the constant beside it in the layer's input

    @property
    def geometry(self) -> Geometry:
        """How the weights meet the source."""
        found = self.op.geometry
        assert found is not None
        return found

    def axis(self, dims: int) -> int:
        """Where an output of ``dims`` axes, without the batch, has its channels."""
        return self.geometry.channels % dims


@dataclass(frozen=True, kw_only=True, eq=False)
class GainTerm:
    """``gain · source``, element by element; ``gain`` broadcasts to the source's shape."""

    source: str
    gain: Tensor  # float64


Term = SynapseTerm | GainTerm


@dataclass(frozen=True, kw_only=True)
class Sum:
    """``target ← Σ terms + constant``, or ``target += …`` when ``target`` is a membrane."""

    target: str
    terms: tuple[Term, ...]
    constant: Tensor | None  # float64, broadcastable to the target
    accumulate: bool

    @property
    def sources(self) -> tuple[str, ...]:
        """The buffers that it reads."""
        return tuple(term.source for term in self.terms)

    @property
    def states(self) -> tuple[str, ...]:
        """The buffers that it changes."""
        return (self.target,)


@dataclass(frozen=True, kw_only=True)
class Fire:
    """The neurons of a site: spike counts into ``target``, soft reset of ``membrane``."""

    target: str
    membrane: str
    current: Sum | None = None  # added to the membrane first
    taken_back: str | None = None  # −S, the net counts of a signed neuron
    threshold: Tensor  # float64, broadcastable
    fewest: int  # spikes of a step; below 0 where they may be taken back
    most: int

    @property
    def sources(self) -> tuple[str, ...]:
        """The buffers that it reads, beside its own."""
        return () if self.current is None else self.current.sources

    @property
    def states(self) -> tuple[str, ...]:
        """The buffers that it changes."""
        return tuple(name for name in (self.target, self.membrane, self.taken_back) if name is not None)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Anything else: ``function(target, *sources, *state, *constants)``, which writes the target and its state.

    ``what`` says it for who cannot call it: ``write`` is ``target ← op(*sources)``, ``add_up`` is ``op.route(source)``
    times the constant, ``difference`` is ``total += source; target ← op(total) − before; before ← op(total)``,
    ``leak`` is that of f(c) = c + factor·min(c, 0), rounded, ``step`` is a step of the op, and ``cumulate`` that of
    t·op(Σ/t) with the state (Σ of every source, its last value, t).
    """

    what: Literal["write", "add_up", "difference", "leak", "step", "cumulate"]
    op: Op | None = None
    target: str
    function: Callable[..., object]
    sources: tuple[str, ...]
    state: tuple[str, ...] = ()
    constants: tuple[Tensor, ...] = ()  # float64
    counts: str | None = None  # of a neuron: the part of its state in which its spikes are seen
    windows: tuple[Spans, Spans] | None = None  # that ``add_up`` adds up, of rows and columns, where they are such

    @property
    def states(self) -> tuple[str, ...]:
        """The buffers that it changes."""
        return (self.target, *self.state)


Instruction = Sum | Fire | Compute


@dataclass(frozen=True, kw_only=True)
class Exit:
    """Where a step can be left.

    Attributes:
        stop: how many of the step's instructions come before it.
        output: the buffer of its scores ``[B, K]``, of this step alone.
        scale: what one unit of them is worth.
        cost: the share of a step up to here.
    """

    stop: int
    output: str
    scale: float
    cost: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Program:
    """What an engine runs.

    Attributes:
        input_shape: ``(C, H, W)``.
        input_scale: how images become integers; None in a float program.
        buffers: by name.
        encode: instructions run once an image.
        step: instructions run once a timestep.
        exits: of a step, in order; the last is its end.
        max_timesteps: up to here every value is proven to be exact; None in a float program.
        report: what rounding the weights of each synapse cost.
        coarser: sums whose scale is so many times coarser than is wanted, because T steps have to fit.
    """

    input_shape: tuple[int, ...]
    input_scale: InputScale | None
    buffers: Mapping[str, Buffer]
    encode: tuple[Instruction, ...]
    step: tuple[Instruction, ...]
    exits: tuple[Exit, ...]
    max_timesteps: int | None
    report: tuple[LayerReport, ...] = ()
    coarser: Mapping[str, int] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether this is an integer program."""
        return self.input_scale is not None

    @property
    def output(self) -> str:
        """The buffer of a whole step's scores ``[B, K]``."""
        return self.exits[-1].output

    @property
    def output_scale(self) -> float:
        """What one unit of the output is worth."""
        return self.exits[-1].scale

    @property
    def segments(self) -> list[tuple[Instruction, ...]]:
        """The instructions of a step from each exit to the next."""
        stops = [0, *(exit.stop for exit in self.exits)]
        return [self.step[first:stop] for first, stop in pairwise(stops)]

    def sums(self) -> Iterator[Sum]:
        """All of them, those that neurons are charged with included."""
        for instruction in (*self.encode, *self.step):
            found = instruction.current if isinstance(instruction, Fire) else instruction
            if isinstance(found, Sum):
                yield found

    def macs(self) -> dict[str, int]:
        """Multiply-accumulates of the synapses in each sum of a step, were every input dense."""
        found: dict[str, int] = {}
        for total in self.sums():
            for term in total.terms:
                if isinstance(term, SynapseTerm):
                    macs = term.op.macs(self.buffers[total.target].shape, self.buffers[term.source].shape)
                    found[total.target] = found.get(total.target, 0) + macs
        return found
