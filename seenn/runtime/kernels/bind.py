"""Instructions to calls: each bound to the memory that it reads and writes, so that a step allocates nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from seenn.core.ops import StatelessOp
from seenn.core.ops.base import Rearrangement
from seenn.native import Cumulative, WindowSums
from seenn.native.memory import order
from seenn.runtime.kernels.neurons import Neurons
from seenn.runtime.kernels.synapses import Accumulate, Action, Copies, Copy, Kernel, Views, interiors
from seenn.runtime.lowering.program import Compute, Fire, GainTerm, Instruction, Program, Sum, SynapseTerm
from seenn.runtime.lowering.values import integrate

CURRENT_BYTES = 2 << 20  # of sums before they are added: they are read again at once, best from the cache

_Bound = tuple[str, Sequence[Action], Callable[[], Tensor] | None]  # a thunk's label, actions, counts


@dataclass(frozen=True)
class Thunk:
    """What fills one buffer, on some rows."""

    label: str  # the buffer
    first: int  # of the rows that were bound
    rows: int
    actions: tuple[Action, ...]
    counts: Callable[[], Tensor] | None = None  # the spikes of the neurons of this name, after it ran

    def run(self) -> None:
        """Does it."""
        for action in self.actions:
            action()


@dataclass(frozen=True)
class Memory:
    """What instructions are bound to.

    Attributes:
        rows: how many samples.
        views: the program's buffers.
        copies: what kernels want in bytes.
        currents: zeros, as many as ``Binder.currents`` says; needed where neurons fire.
        fresh: bool, which rows' states are to be initialised; read whenever a thunk runs.
        slots: int64, which rows of ``fresh`` and of the views that are ``Binder.in_slots`` belong to the samples; read
            likewise. None: each its own.
    """

    rows: int
    views: Views
    copies: Copies
    currents: Tensor | None = None
    fresh: Tensor | None = None
    slots: Tensor | None = None

    def part(self, first: int, stop: int, in_slots: frozenset[str]) -> Memory:
        """That of some of the samples."""
        if (first, stop) == (0, self.rows):
            return self
        cut, apart = slice(first, stop), self.slots is not None
        return Memory(
            stop - first,
            {name: view if apart and name in in_slots else view[cut] for name, view in self.views.items()},
            {copy: framed[cut] for copy, framed in self.copies.items()},
            self.currents,
            self.fresh if self.fresh is None or apart else self.fresh[cut],
            None if self.slots is None else self.slots[cut],
        )


@dataclass(frozen=True)
class _Synapse:
    """How a term is computed."""

    kernel: Kernel
    bias: Tensor | None  # float64, one number for each output
    copy: Copy | None  # what it reads; None: the buffer itself


class Binder:
    """Packs a program's weights once and binds its instructions to buffers as often as needed.

    Args:
        program: what to run.
        kernels: in order of preference; the first that accepts a synapse computes it.
        device: where the buffers are.
        native: neurons in one pass; None: by torch.

    Attributes:
        native: as given.
        initialised: states that the neurons initialise themselves, in their kernel. These neurons meet their currents
            apart from the membrane, in memory that all sites share and that stays in the cache; a new sample's membrane
            is written once in its first step, not read. Integers add up to the same in this order; other sums would be
            rounded otherwise than by torch.
        in_slots: buffers kept for every sample that nothing but such neurons reads, wherever in memory the sample is.
        copies: what kernels want in bytes.
        unused: buffers that nothing reads but through their copies.
        note: which kernels were chosen.
    """

    def __init__(
        self, program: Program, kernels: Sequence[Kernel], device: torch.device, native: CDLL | None = None
    ) -> None:
        self._program = program
        self._device = device
        self.native = native
        self._synapses: dict[SynapseTerm, _Synapse] = {}
        self._packed: dict[tuple[SynapseTerm, int], Accumulate] = {}
        for total in program.sums():
            self._plan(total, kernels)
        found = list(self._synapses.values())
        self.copies = list(dict.fromkeys(synapse.copy for synapse in found if synapse.copy is not None))
        layers = Counter(synapse.kernel.name for synapse in found)
        self.note = ", ".join(f"{count} synapses by {name}" for name, count in layers.items())
        self.unused = frozenset[str]()
        wide = [total for total in program.sums() if program.buffers[total.target].dtype == torch.int32]
        charged: list[Fire] = []
        fires = [instruction for instruction in program.step if isinstance(instruction, Fire)]
        self._joined: set[GainTerm] = set()  # what neurons add to their membranes themselves
        if native is not None:
            self.note += ", neurons in one pass"
            self._joined = {term for fire in fires for term in self._alike(fire)}
            self.unused = frozenset({copy.name for copy in self.copies} & {fire.target for fire in fires})
            self.unused -= self._read_as_floats()
            charged = [fire for fire in fires if fire.current is not None and program.exact]
        states = (name for fire in charged for name in (fire.membrane, fire.taken_back) if name is not None)
        self.initialised = frozenset(states)
        self.in_slots = self.initialised | self._joined_alone()
        self._in_place = self._readable_in_place()
        # Sums that are computed apart from their target, in float32: a membrane that its neurons add them to, or int32.
        self._apart = {*(fire.membrane for fire in charged), *(total.target for total in wide)}

    def currents(self, rows: int) -> int:
        """The most numbers that are added to buffers at once, of so many samples."""
        return max((min(rows, self._at_once(name)) * self._size(name) for name in self._apart), default=0)

    def _size(self, name: str) -> int:
        return math.prod(self._program.buffers[name].shape)

    def _at_once(self, name: str) -> int:
        """How many samples' sums are computed before they are added: as many as stay in the cache, a power of two."""
        return 1 << max(1, CURRENT_BYTES // (4 * self._size(name))).bit_length() - 1

    def _joined_alone(self) -> set[str]:
        """What is constant in an image, and only ever added to membranes that are ``initialised``."""
        found: set[str] = set()
        others: set[str] = set()
        for instruction in self._program.step:
            terms = instruction.current.terms if isinstance(instruction, Fire) and instruction.current else ()
            own = isinstance(instruction, Fire) and instruction.membrane in self.initialised
            joined = {term.source for term in terms if own and term in self._joined}
            found |= joined
            others |= {*instruction.sources} - joined
        return {name for name in found - others if self._program.buffers[name].life == "constant"}

    def _readable_in_place(self) -> dict[str, bool]:
        """What is rearranged and read in the same segment only; whether its readers take it in any order of memory."""
        found: dict[str, bool] = {}
        for part in self._program.segments:
            moves = [one for one in part if isinstance(one, Compute) and one.what == "write" and _moves(one)]
            found.update({one.target: True for one in moves})
            for one in part:
                terms = one.current.terms if isinstance(one, Fire) and one.current else getattr(one, "terms", ())
                gained = {term.source for term in terms if isinstance(term, GainTerm) and term not in self._joined}
                for name in found.keys() & {*one.sources}:
                    found[name] &= one in moves or name in gained
        made = [{one.target for one in part} for part in self._program.segments]
        for own, part in zip(made, self._program.segments, strict=True):
            for name in {name for one in part for name in one.sources} - own:
                found.pop(name, None)
        for exit in self._program.exits:
            found.pop(exit.output, None)
        return found

    def _in_other_order(self, instruction: Instruction, memory: Memory) -> Tensor | None:
        """What a rearrangement gives, where it is what is there already: in the order of ``target``, or in any."""
        name = instruction.target
        if name not in self._in_place:
            return None
        assert isinstance(instruction, Compute)
        assert isinstance(instruction.op, Rearrangement)
        (source,) = instruction.sources
        if self._program.buffers[source].life != "scratch":
            return None
        before, own = memory.views[source], memory.views[name]
        found = instruction.op(before)
        same = found.untyped_storage().data_ptr() == before.untyped_storage().data_ptr()
        return found if same and (self._in_place[name] or found.stride() == own.stride()) else None

    def _plan(self, total: Sum, kernels: Sequence[Kernel]) -> None:
        """Chooses each synapse's kernel; the first takes the constant, where it is one number for each output."""
        constant = total.constant
        for term in total.terms:
            if isinstance(term, SynapseTerm):
                bias, source = None, self._program.buffers[term.source]
                if constant is not None and _per_output(term, constant):
                    bias, constant = constant.flatten(), None
                exact = self._program.buffers[total.target].dtype == torch.float64
                copied = source.life == "scratch"  # of what is kept, nobody writes bytes
                kernel = next(
                    k
                    for k in kernels
                    if k.accepts(term, source)
                    and (k.dtype == torch.float64 or not exact)
                    and (k.dtype != torch.uint8 or copied)
                )
                wanted = Copy(term.source, kernel.margin(term, source, bias)) if kernel.dtype == torch.uint8 else None
                self._synapses[term] = _Synapse(kernel, bias, wanted)

    def _alike(self, fire: Fire) -> Iterator[GainTerm]:
        """The terms of a current that lie as its membrane does."""
        buffers = self._program.buffers
        for term in () if fire.current is None else fire.current.terms:
            if isinstance(term, GainTerm) and buffers[term.source].shape == buffers[fire.membrane].shape:
                yield term

    def _read_as_floats(self) -> set[str]:
        """The buffers that some instruction wants as they are."""
        found = {self._program.output}
        for instruction in self._program.step:
            if isinstance(instruction, Compute) and not self._adds_up_bytes(instruction):
                found.update(instruction.sources)
        for term in (term for total in self._program.sums() for term in total.terms):
            by_bytes = self._synapses[term].copy is not None if isinstance(term, SynapseTerm) else term in self._joined
            if not by_bytes:
                found.add(term.source)
        return found

    def _accumulate(self, term: SynapseTerm, rows: int) -> Accumulate:
        """Packed for this number of rows: oneDNN's best layout of the weights depends on it."""
        key = term, rows
        if key not in self._packed:
            source, chosen = self._program.buffers[term.source], self._synapses[term]
            self._packed[key] = chosen.kernel.prepare(term, source, chosen.bias, rows, self._device)
        return self._packed[key]

    def bind(self, instructions: Sequence[Instruction], memory: Memory) -> list[Thunk]:
        """The instructions of the program, in its order; what is computed apart takes the samples in turns."""
        thunks: list[Thunk] = []
        for instruction in instructions:
            if (view := self._in_other_order(instruction, memory)) is not None:
                memory = replace(memory, views={**memory.views, instruction.target: view})
                copies = (*self._copied(instruction.target, memory),)
                thunks.append(Thunk(instruction.target, 0, memory.rows, copies))
                continue
            of = instruction.membrane if isinstance(instruction, Fire) else instruction.target
            turn = min(memory.rows, self._at_once(of)) if of in self._apart else memory.rows
            for first, stop in cut(memory.rows, turn):
                part = memory.part(first, stop, self.in_slots)
                bound = (
                    self._fire(instruction, part) if isinstance(instruction, Fire) else self._fill(instruction, part)
                )
                thunks.extend(Thunk(name, first, stop - first, (*actions,), counts) for name, actions, counts in bound)
        return thunks

    def _fill(self, instruction: Sum | Compute, memory: Memory) -> Iterator[_Bound]:
        name, counts = instruction.target, None
        if isinstance(instruction, Sum):
            actions = self._charge(instruction, memory)
        else:
            actions = list(self._compute(instruction, memory))
            if instruction.counts is not None:
                counts = self._counts(instruction.counts, memory)
        yield name, [*actions, *self._copied(name, memory)], counts

    def _adds_up_bytes(self, compute: Compute) -> bool:
        """Whether it is an average of what is there in bytes."""
        there = any(copy.name in compute.sources for copy in self.copies)
        return there and compute.windows is not None and self.native is not None

    def _compute(self, compute: Compute, memory: Memory) -> Iterator[Action]:
        views = memory.views
        target, constants = views[compute.target], map(self._number, compute.constants)
        if self.native is not None and compute.windows is not None and self._adds_up_bytes(compute):
            (name,) = compute.sources
            low = int(self._program.buffers[name].low)
            yield WindowSums(self.native, interiors(memory.copies, name)[0], target, *compute.windows, low)
            yield from (partial(target.mul_, factor) for factor in constants)
            return
        sources, state = ([views[name] for name in names] for names in (compute.sources, compute.state))
        if self.native is not None and compute.what == "cumulate":
            assert isinstance(compute.op, StatelessOp)
            *sums, value, t = state
            inputs = [*zip(sources, sums, strict=True)]
            if Cumulative.fits(compute.op.degree, target, value, inputs):
                yield Cumulative(self.native, compute.op, compute.op.degree, target, value, inputs, t)
                return
        yield partial(compute.function, target, *sources, *state, *constants)

    def _fire(self, fire: Fire, memory: Memory) -> Iterator[_Bound]:
        """The current of a site's neurons, and the neurons."""
        begins, current, charge = fire.membrane in self.initialised, None, list[Action]()
        if fire.current is not None and begins and memory.currents is not None:
            membranes = memory.views[fire.membrane]
            current = _shaped(memory.currents, membranes, memory.rows)
            charge = list(self._sum(fire.current, current, memory))
            if not charge and membranes.is_floating_point():  # nothing is added but what neurons join
                current = None
        elif fire.current is not None:
            charge = self._charge(fire.current, memory)
        yield fire.membrane, charge, None
        neurons = Neurons(self._program, fire, self._device)
        if self.native is None:
            actions = [*neurons.by_torch(memory.views), *self._copied(fire.target, memory)]
        else:
            actions = neurons.in_one_pass(
                self.native,
                list(self._alike(fire)),
                memory.views,
                memory.copies,
                keep_floats=fire.target not in self.unused,
                current=current,
                fresh=memory.fresh if begins else None,
                slots=memory.slots if begins else None,
                kept=frozenset() if memory.slots is None else self.in_slots,
            )
        yield fire.target, actions, self._counts(fire.target, memory)

    def _counts(self, name: str, memory: Memory) -> Callable[[], Tensor]:
        if name not in self.unused:
            return lambda: memory.views[name]
        low, integers = self._program.buffers[name].low, interiors(memory.copies, name)[0]
        return lambda: integers.float().add_(low)

    def _charge(self, total: Sum, memory: Memory) -> list[Action]:
        """A sum into its buffer; into one of int32 by way of float32."""
        target = memory.views[total.target]
        if target.is_floating_point():
            return list(self._sum(total, target, memory))
        assert memory.currents is not None
        current = _shaped(memory.currents, target, len(target))
        return [*self._sum(total, current, memory), partial(integrate, target, current), current.zero_]

    def _sum(self, total: Sum, target: Tensor, memory: Memory) -> Iterator[Action]:
        views, copies = memory.views, memory.copies
        terms = [term for term in total.terms if term not in self._joined]
        taken = any(isinstance(t, SynapseTerm) and self._synapses[t].bias is not None for t in terms)
        constant = None if total.constant is None or taken else _as_in(target, self._number(total.constant))
        if not total.accumulate:
            first = next((t for t in terms if isinstance(t, GainTerm) and constant is None), None)
            if isinstance(first, GainTerm) and views[first.source].shape == target.shape:
                terms.remove(first)
                yield partial(torch.mul, views[first.source], self._number(first.gain), out=target)
            elif constant is not None:
                yield partial(target.copy_, constant.expand_as(target))
                constant = None
            else:
                yield target.zero_
        for term in terms:
            if isinstance(term, GainTerm):
                yield self._gain(term, views[term.source], target)
                continue
            copy = self._synapses[term].copy
            source = views[term.source] if copy is None else copies[copy]
            yield partial(self._accumulate(term, len(target)), target, source)
        if constant is not None:
            yield partial(target.add_, constant)

    def _gain(self, term: GainTerm, source: Tensor, target: Tensor) -> Action:
        if term.gain.numel() == 1:
            return partial(target.add_, source, alpha=float(term.gain))
        return partial(target.addcmul_, source, self._number(term.gain))

    def _copied(self, name: str, memory: Memory) -> Iterator[Action]:
        """Counts as bytes, from 0: two's complement, then shifted by the lowest count."""
        for integers in interiors(memory.copies, name):
            yield partial(integers.view(torch.int8).copy_, memory.views[name])
            if low := int(self._program.buffers[name].low):
                yield partial(integers.add_, -low)

    def _number(self, value: Tensor) -> Tensor:
        """A constant of the program, ready to meet a buffer."""
        return value.to(self._device, torch.float32)


def _moves(compute: Compute) -> bool:
    return isinstance(compute.op, Rearrangement) and len(compute.sources) == 1 and compute.counts is None


def cut(rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Whole tiles, then halves of halves: few shapes, for each of which weights are packed."""
    start = 0
    while start < rows:
        while most > rows - start:
            most = -(-most // 2)
        yield start, start + most
        start += most


def _shaped(memory: Tensor, like: Tensor, batch: int) -> Tensor:
    """The beginning of ``memory``, samples laid out as in ``like``, which is dense."""
    memory = memory[: batch * math.prod(like.shape[1:])]
    if order(like) is not torch.channels_last:
        return memory.view(batch, *like.shape[1:])
    _, channels, rows, columns = like.shape
    return memory.view(batch, rows, columns, channels).permute(0, 3, 1, 2)


def _as_in(buffer: Tensor, sample: Tensor) -> Tensor:
    """Laid out as the samples of ``buffer``, so that it is added to them in the order of memory."""
    return (
        sample.unsqueeze(0).contiguous(memory_format=order(buffer))
        if buffer.dim() == 4 and sample.dim() == 3
        else sample
    )


def _per_output(term: SynapseTerm, constant: Tensor) -> bool:
    """Whether the constant is one number for each output channel, as a bias is."""
    rest = term.weight.dim() - 2 if term.geometry.channels == 0 else 0
    return constant.shape == (len(term.weight), *[1] * rest)
