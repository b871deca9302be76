"""Instructions to calls: each bound to the memory that it reads and writes, so that a step allocates nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seenn.runtime.kernels.neurons import Neurons
from seenn.runtime.kernels.synapses import Accumulate, Action, Copies, Copy, Kernel, Views, interiors
from seenn.runtime.lowering.program import Compute, Fire, GainTerm, Instruction, Program, Sum, SynapseTerm
from seenn.runtime.lowering.values import integrate


@dataclass(frozen=True)
class Thunk:
    """What fills one buffer, on some rows."""

    label: str  # the buffer
    actions: tuple[Action, ...]
    counts: Callable[[], Tensor] | None = None  # the spikes of the neurons of this name, after it ran

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
        initialised: states that the neurons initialise themselves, in their kernel. These neurons meet their currents
            apart from the membrane, in memory that all sites share and that stays in the cache; a new sample's membrane
            is written once in its first step, not read. Integers add up to the same in this order; other sums would be
            rounded otherwise than by torch.
        in_slots: buffers kept for every sample that nothing but such neurons reads, wherever in memory the sample is.
        currents: the most numbers of a sample that are added to a membrane at once, where its neurons do that, or where
            it is int32: a step's sum is always computed in float32.
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
        apart = {*(fire.membrane for fire in charged), *(total.target for total in wide)}
        self.currents = max((math.prod(program.buffers[name].shape) for name in apart), default=0)

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

    def _plan(self, total: Sum, kernels: Sequence[Kernel]) -> None:
        """Chooses each synapse's kernel; the first takes the constant, where it is one number for each output."""
        constant = total.constant
        for term in total.terms:
            if isinstance(term, SynapseTerm):
                bias, source = None, self._program.buffers[term.source]
                if constant is not None and _per_output(term, constant):
                    bias, constant = constant.flatten(), None
                exact = self._program.buffers[total.target].dtype == torch.float64
                kernel = next(k for k in kernels if k.accepts(term, source) and (k.dtype == torch.float64 or not exact))
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
            if isinstance(instruction, Compute):
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

    def bind(
        self,
        instructions: Sequence[Instruction],
        views: Views,
        copies: Copies,
        currents: Tensor | None = None,
        fresh: Tensor | None = None,
        slots: Tensor | None = None,
    ) -> list[Thunk]:
        """The instructions in order, on these rows.

        Args:
            instructions: of the program, in its order.
            views: its buffers.
            copies: what kernels want in bytes.
            currents: zeros, at least ``self.currents`` a row; needed where neurons fire.
            fresh: bool, which rows' states are to be ``initialised``; read whenever a thunk runs.
            slots: int64, which rows of ``fresh`` and of the views ``in_slots`` belong to the samples; read likewise.
                None: each its own.
        """
        thunks: list[Thunk] = []
        for instruction in instructions:
            name, counts = instruction.target, None
            if isinstance(instruction, Fire):
                thunks.extend(self._fire(instruction, views, copies, currents, fresh, slots))
                continue
            if isinstance(instruction, Sum):
                actions = self._charge(instruction, views, copies, currents)
            else:
                buffers = (views[each] for each in (name, *instruction.sources, *instruction.state))
                actions = [partial(instruction.function, *buffers, *map(self._number, instruction.constants))]
                if instruction.counts is not None:
                    counts = self._counts(instruction.counts, views, copies)
            thunks.append(Thunk(name, (*actions, *self._copied(name, views, copies)), counts))
        return thunks

    def _fire(
        self,
        fire: Fire,
        views: Views,
        copies: Copies,
        currents: Tensor | None,
        fresh: Tensor | None,
        slots: Tensor | None,
    ) -> Iterator[Thunk]:
        """The current of a site's neurons, and the neurons."""
        begins, current, charge = fire.membrane in self.initialised, None, list[Action]()
        if fire.current is not None and begins and currents is not None:
            membranes = views[fire.membrane]
            current = _shaped(currents, membranes, len(membranes) if slots is None else len(slots))
            charge = list(self._sum(fire.current, current, views, copies))
            if not charge and membranes.is_floating_point():  # nothing is added but what neurons join
                current = None
        elif fire.current is not None:
            charge = self._charge(fire.current, views, copies, currents)
        yield Thunk(fire.membrane, tuple(charge))
        neurons = Neurons(self._program, fire, self._device)
        if self.native is None:
            actions = [*neurons.by_torch(views), *self._copied(fire.target, views, copies)]
        else:
            actions = neurons.in_one_pass(
                self.native,
                list(self._alike(fire)),
                views,
                copies,
                keep_floats=fire.target not in self.unused,
                current=current,
                fresh=fresh if begins else None,
                slots=slots if begins else None,
                kept=frozenset() if slots is None else self.in_slots,
            )
        yield Thunk(fire.target, tuple(actions), self._counts(fire.target, views, copies))

    def _counts(self, name: str, views: Views, copies: Copies) -> Callable[[], Tensor]:
        if name not in self.unused:
            return lambda: views[name]
        low, integers = self._program.buffers[name].low, interiors(copies, name)[0]
        return lambda: integers.float().add_(low)

    def _charge(self, total: Sum, views: Views, copies: Copies, currents: Tensor | None) -> list[Action]:
        """A sum into its buffer; into one of int32 by way of float32."""
        target = views[total.target]
        if target.is_floating_point():
            return list(self._sum(total, target, views, copies))
        assert currents is not None
        current = _shaped(currents, target, len(target))
        return [*self._sum(total, current, views, copies), partial(integrate, target, current), current.zero_]

    def _sum(self, total: Sum, target: Tensor, views: Views, copies: Copies) -> Iterator[Action]:
        terms = [term for term in total.terms if term not in self._joined]
        taken = any(isinstance(t, SynapseTerm) and self._synapses[t].bias is not None for t in terms)
        constant = None if total.constant is None or taken else self._number(total.constant)
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

    def _copied(self, name: str, views: Views, copies: Copies) -> Iterator[Action]:
        """Counts as bytes, from 0: two's complement, then shifted by the lowest count."""
        for integers in interiors(copies, name):
            yield partial(integers.view(torch.int8).copy_, views[name])
            if low := int(self._program.buffers[name].low):
                yield partial(integers.add_, -low)

    def _number(self, value: Tensor) -> Tensor:
        """A constant of the program, ready to meet a buffer."""
        return value.to(self._device, torch.float32)


def _shaped(memory: Tensor, like: Tensor, batch: int) -> Tensor:
    """The beginning of ``memory``, samples laid out as in ``like``: dense, channels-last where there are four axes."""
    memory = memory[: batch * math.prod(like.shape[1:])]
    if like.dim() != 4:
        return memory.view(batch, *like.shape[1:])
    _, channels, rows, columns = like.shape
    return memory.view(batch, rows, columns, channels).permute(0, 3, 1, 2)


def _per_output(term: SynapseTerm, constant: Tensor) -> bool:
    """Whether the constant is one number for each output channel, as a bias is."""
    rest = term.weight.dim() - 2 if term.geometry.channels == 0 else 0
    return constant.shape == (len(term.weight), *[1] * rest)
