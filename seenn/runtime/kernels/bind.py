"""Instructions to calls: each bound to the memory that it reads and writes, so that a step allocates nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor

from seenn.runtime.kernels.neurons import Neurons
from seenn.runtime.kernels.synapses import Accumulate, Kernel
from seenn.runtime.kernels.views import Action, Copies, Copy, Views
from seenn.runtime.lowering.program import (
    Apply,
    Call,
    Difference,
    Fire,
    GainTerm,
    Instruction,
    Leak,
    Program,
    Sum,
    SynapseTerm,
)


@dataclass(frozen=True)
class Thunk:
    """One instruction on some rows."""

    label: str  # the buffer that it fills
    actions: tuple[Action, ...]
    site: str | None = None  # the neurons that fire in it
    counts: Callable[[], Tensor] | None = None  # their spikes, after it ran

    def run(self) -> None:
        """Does it."""
        for action in self.actions:
            action()


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
        initialised: states that the neurons initialise themselves, in their kernel.
        currents: the most numbers of a sample that are added to a membrane at once, where its neurons do that.
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
        for instruction in (*program.encode, *program.step):
            if isinstance(instruction, Sum):
                self._plan(instruction, kernels)
            elif isinstance(instruction, Apply | Difference | Call):
                instruction.op.to(device)
        found = list(self._synapses.values())
        self.copies = list(dict.fromkeys(synapse.copy for synapse in found if synapse.copy is not None))
        layers = Counter(synapse.kernel.name for synapse in found)
        self.note = ", ".join(f"{count} synapses by {name}" for name, count in layers.items())
        self.unused = frozenset[str]()
        if native is not None:
            self.note += ", neurons in one pass"
            fired = {instruction.target for instruction in program.step if isinstance(instruction, Fire)}
            self.unused = frozenset({copy.name for copy in self.copies} & fired - self._read_as_floats())
        fires = list(self._initialising())
        states = (name for fire in fires for name in (fire.membrane, fire.taken_back) if name is not None)
        self.initialised = frozenset(states)
        self.currents = max((math.prod(program.buffers[fire.membrane].shape) for fire in fires), default=0)

    def _plan(self, instruction: Sum, kernels: Sequence[Kernel]) -> None:
        """Chooses each synapse's kernel; the first takes the constant, where it is one number for each output."""
        constant = instruction.constant
        for term in instruction.terms:
            if isinstance(term, SynapseTerm):
                bias, source = None, self._program.buffers[term.source]
                if constant is not None and _per_output(term, constant):
                    bias, constant = constant.flatten(), None
                kernel = next(k for k in kernels if k.accepts(term, source))
                wanted = Copy(term.source, kernel.margin(term, source, bias)) if kernel.dtype == torch.uint8 else None
                self._synapses[term] = _Synapse(kernel, bias, wanted)

    def _read_as_floats(self) -> set[str]:
        """The buffers that some instruction wants as they are."""
        found = {self._program.output}
        for instruction, following in _pairs(self._program.step):
            if not isinstance(instruction, Sum):
                found.update(instruction.sources)
                continue
            otherwise: set[SynapseTerm | GainTerm] = {*self._joined(instruction, following)}
            otherwise |= {term for term, synapse in self._synapses.items() if synapse.copy is not None}
            found.update(term.source for term in instruction.terms if term not in otherwise)
        return found

    def _joined(self, instruction: Instruction, following: Instruction | None) -> list[GainTerm]:
        """The terms of a sum that the neurons which follow it add themselves."""
        if self.native is None or not isinstance(instruction, Sum) or not isinstance(following, Fire):
            return []
        if following.membrane != instruction.target:
            return []
        shapes = {name: buffer.shape for name, buffer in self._program.buffers.items()}
        terms = [term for term in instruction.terms if isinstance(term, GainTerm)]
        return [term for term in terms if shapes[term.source] == shapes[following.membrane]]

    def _initialising(self) -> Iterator[Fire]:
        """Neurons that meet their currents apart from the membrane, in memory that all sites share.

        That memory stays in the cache, and a new sample's membrane is written once in its first step, not read.
        Integers add up to the same in this order; other sums would be rounded otherwise than by torch.
        """
        if self.native is None or not self._program.exact:
            return
        touched = Counter(name for instruction in self._program.step for name in set(names(instruction)))
        for instruction, following in _pairs(self._program.step):
            if not isinstance(following, Fire) or not isinstance(instruction, Sum):
                continue
            alone = touched[following.membrane] == 2 and (
                not following.taken_back or touched[following.taken_back] == 1
            )
            if alone and instruction.target == following.membrane and instruction.accumulate:
                yield following

    def _accumulate(self, term: SynapseTerm, rows: int) -> Accumulate:
        """Packed for this number of rows: oneDNN's best layout of the weights depends on it."""
        key = term, rows
        if key not in self._packed:
            source, chosen = self._program.buffers[term.source], self._synapses[term]
            self._packed[key] = chosen.kernel.prepare(term, source, chosen.bias, rows, self._device)
        return self._packed[key]

    def bind(
        self,
        instructions: Sequence[Instruction],
        views: Views,
        copies: Copies,
        currents: Tensor | None = None,
        fresh: Tensor | None = None,
    ) -> list[Thunk]:
        """The instructions in order, on these rows.

        Args:
            instructions: of the program, in its order.
            views: its buffers.
            copies: what kernels want in bytes.
            currents: zeros, at least ``self.currents`` a row; needed where neurons fire.
            fresh: bool, which rows' states are to be ``initialised``; read whenever a thunk runs.
        """
        thunks = []
        joined: list[GainTerm] = []
        current: Tensor | None = None
        for instruction, following in _pairs(instructions):
            counts = site = None
            if isinstance(instruction, Fire):
                site = instruction.site
                neurons = Neurons(self._program, instruction, self._device)
                if self.native is None:
                    actions = list(neurons.by_torch(views))
                else:
                    kept = instruction.target not in self.unused
                    begins = instruction.membrane in self.initialised
                    actions = neurons.in_one_pass(
                        self.native,
                        joined,
                        views,
                        copies,
                        keep_floats=kept,
                        current=current if begins else None,
                        fresh=fresh if begins else None,
                    )
                counts = self._counts(instruction.target, views, copies)
            else:
                joined, current, where = self._joined(instruction, following), None, views
                if instruction.target in self.initialised:
                    assert currents is not None
                    current = _shaped(currents, views[instruction.target])
                    where = {**views, instruction.target: current}
                actions = list(self._actions(instruction, joined, where, copies))
                current = current if actions else None
                if isinstance(instruction, Call) and instruction.counts is not None:
                    site, counts = instruction.target, self._counts(instruction.counts, views, copies)
            if self.native is None or not isinstance(instruction, Fire):
                actions.extend(self._copied(instruction.target, views, copies))
            thunks.append(Thunk(instruction.target, tuple(actions), site, counts))
        return thunks

    def _counts(self, name: str, views: Views, copies: Copies) -> Callable[[], Tensor]:
        if name not in self.unused:
            return lambda: views[name]
        copy, framed = next((copy, framed) for copy, framed in copies.items() if copy.name == name)
        low = self._program.buffers[name].low
        return lambda: copy.interior(framed).float() + low

    def _actions(
        self, instruction: Instruction, joined: list[GainTerm], views: Views, copies: Copies
    ) -> Iterator[Action]:
        if isinstance(instruction, Sum):
            yield from self._sum(instruction, joined, views, copies)
        elif isinstance(instruction, Leak):
            yield from self._leak(instruction, views)
        elif isinstance(instruction, Apply):
            yield from self._apply(instruction, views)
        elif isinstance(instruction, Difference):
            yield from self._difference(instruction, views)
        elif isinstance(instruction, Call):
            yield partial(_call, instruction, views)

    def _sum(self, instruction: Sum, joined: list[GainTerm], views: Views, copies: Copies) -> Iterator[Action]:
        target = views[instruction.target]
        terms = [term for term in instruction.terms if term not in joined]
        taken = any(isinstance(t, SynapseTerm) and self._synapses[t].bias is not None for t in terms)
        constant = None if instruction.constant is None or taken else self._number(instruction.constant)
        if not instruction.accumulate:
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
            yield partial(
                self._accumulate(term, len(target)), target, views[term.source] if copy is None else copies[copy]
            )
        if constant is not None:
            yield partial(target.add_, constant)

    def _gain(self, term: GainTerm, source: Tensor, target: Tensor) -> Action:
        if term.gain.numel() == 1:
            return partial(target.add_, source, alpha=float(term.gain))
        return partial(target.addcmul_, source, self._number(term.gain))

    def _leak(self, leak: Leak, views: Views) -> Iterator[Action]:
        """f(c) = c + (slope − 1)·min(c, 0)."""
        membrane, charge, before = (views[name] for name in (leak.target, leak.charge, leak.before))
        yield partial(membrane.sub_, before)
        yield partial(torch.clamp, charge, max=0, out=before)
        yield partial(before.mul_, self._number(leak.slope - 1))
        if self._program.exact:
            yield before.round_
        yield partial(before.add_, charge)
        yield partial(membrane.add_, before)

    def _apply(self, apply: Apply, views: Views) -> Iterator[Action]:
        target, sources, op = views[apply.target], [views[name] for name in apply.sources], apply.op
        if apply.total:
            yield lambda: target.copy_(op.route(*sources))
        else:
            yield partial(op.write, target, *sources)
        if apply.gain is not None:
            yield partial(target.mul_, self._number(apply.gain))

    def _difference(self, difference: Difference, views: Views) -> Iterator[Action]:
        source, total, before, target = (
            views[name] for name in (difference.source, difference.total, difference.before, difference.target)
        )
        yield partial(total.add_, source)
        yield lambda: target.copy_(difference.op(total))
        yield partial(target.sub_, before)
        yield partial(before.add_, target)

    def _copied(self, name: str, views: Views, copies: Copies) -> Iterator[Action]:
        """Counts as bytes, from 0: two's complement, then shifted by the lowest count."""
        for copy, framed in copies.items():
            if copy.name == name:
                integers, low = copy.interior(framed), int(self._program.buffers[name].low)
                yield partial(integers.view(torch.int8).copy_, views[name])
                if low:
                    yield partial(integers.add_, -low)

    def _number(self, value: Tensor) -> Tensor:
        """A constant of the program, ready to meet a buffer."""
        return value.to(self._device, torch.float32)


def _pairs(instructions: Sequence[Instruction]) -> Iterator[tuple[Instruction, Instruction | None]]:
    """Each with the one that follows it."""
    return zip_longest(instructions, instructions[1:])


def names(instruction: Instruction) -> Iterator[str]:
    """All buffers that it reads or writes."""
    yield from instruction.sources
    for value in vars(instruction).values():
        yield from (value,) if isinstance(value, str) else ()
    if isinstance(instruction, Call):
        yield from instruction.state


def _shaped(memory: Tensor, like: Tensor) -> Tensor:
    """The beginning of ``memory``, laid out as ``like``: dense, channels-last where there are four axes."""
    if like.dim() != 4:
        return memory[: like.numel()].view(like.shape)
    batch, channels, rows, columns = like.shape
    return memory[: like.numel()].view(batch, rows, columns, channels).permute(0, 3, 1, 2)


def _per_output(term: SynapseTerm, constant: Tensor) -> bool:
    """Whether the constant is one number for each output channel, as a bias is."""
    rest = term.weight.dim() - 2 if term.geometry.channels == 0 else 0
    return constant.shape == (len(term.weight), *[1] * rest)


def _call(call: Call, views: Views) -> None:
    inputs, state = tuple(views[n] for n in call.sources), tuple(views[n] for n in call.state)
    output, count, state = call.op.counted_step(inputs, state)
    views[call.target].copy_(output)
    if call.counts is not None and count is not None:
        views[call.counts].copy_(count)
    for name, tensor in zip(call.state, state, strict=True):
        views[name].copy_(tensor)
