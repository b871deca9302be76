"""Instructions to calls: each bound to the memory that it reads and writes, so that a step allocates nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import torch
from torch import Tensor

from seenn.engines.kernels import Accumulate, Kernel, Margin
from seenn.lowering.program import (
    EXACT_LIMIT,
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
    window_sum,
)
from seenn.native import Firing, Joined
from seenn.ops import AvgPool2d, Concat, Conv2d, Mean, Neuron

CACHE_BYTES = 4 << 20  # of a site's state that its neurons update together; smaller pieces wait more than they gain

Action = Callable[[], object]
Views = Mapping[str, Tensor]


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
class Copy:
    """A buffer as bytes, ``value − low``, with a margin of zeros around each image."""

    name: str
    margin: Margin

    def interior(self, framed: Tensor) -> Tensor:
        """Without the margin."""
        if framed.dim() < 4:
            return framed
        (rows, columns), (height, width) = self.margin, framed.shape[2:]
        return framed[:, :, rows : height - rows, columns : width - columns]


Copies = Mapping[Copy, Tensor]


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
        self._synapses: dict[int, _Synapse] = {}
        self._packed: dict[tuple[int, int], Accumulate] = {}
        for instruction in (*program.encode, *program.step):
            if isinstance(instruction, Sum):
                self._plan(instruction, kernels)
        found = list(self._synapses.values())
        self.copies = list(dict.fromkeys(synapse.copy for synapse in found if synapse.copy is not None))
        layers = Counter(synapse.kernel.name for synapse in found)
        self.note = ", ".join(f"{count} synapses by {name}" for name, count in layers.items())
        self.unused = frozenset[str]()
        if native is not None:
            self.note += ", neurons in one pass"
            fired = {instruction.target for instruction in program.step if isinstance(instruction, Fire)}
            self.unused = frozenset({copy.name for copy in self.copies} & fired - self._read_as_floats())

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
                self._synapses[id(term)] = _Synapse(kernel, bias, wanted)

    def _read_as_floats(self) -> set[str]:
        """The buffers that some instruction wants as they are."""
        found = {self._program.output}
        for instruction, following in _pairs(self._program.step):
            if not isinstance(instruction, Sum):
                found.update(instruction.sources)
                continue
            otherwise = {id(term) for term in self._joined(instruction, following)}
            otherwise |= {key for key, synapse in self._synapses.items() if synapse.copy is not None}
            found.update(term.source for term in instruction.terms if id(term) not in otherwise)
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

    def _accumulate(self, term: SynapseTerm, rows: int) -> Accumulate:
        """Packed for this number of rows: oneDNN's best layout of the weights depends on it."""
        key = id(term), rows
        if key not in self._packed:
            source, chosen = self._program.buffers[term.source], self._synapses[id(term)]
            self._packed[key] = chosen.kernel.prepare(term, source, chosen.bias, rows, self._device)
        return self._packed[key]

    def bind(self, instructions: Sequence[Instruction], views: Views, copies: Copies) -> list[Thunk]:
        """The instructions in order, on these rows."""
        thunks = []
        joined: list[GainTerm] = []
        for instruction, following in _pairs(instructions):
            counts = site = None
            if isinstance(instruction, Fire):
                site = instruction.site
                if self.native is None:
                    actions = list(self._fire(instruction, views))
                else:
                    actions = self._fire_natively(instruction, joined, views, copies)
                counts = self._counts(instruction.target, views, copies)
            else:
                joined = self._joined(instruction, following)
                actions = list(self._actions(instruction, joined, views, copies))
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
        elsewhere = {id(term) for term in joined}
        terms = [term for term in instruction.terms if id(term) not in elsewhere]
        taken = any(isinstance(t, SynapseTerm) and self._synapses[id(t)].bias is not None for t in terms)
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
            copy = self._synapses[id(term)].copy
            yield partial(
                self._accumulate(term, len(target)), target, views[term.source] if copy is None else copies[copy]
            )
        if constant is not None:
            yield partial(target.add_, constant)

    def _gain(self, term: GainTerm, source: Tensor, target: Tensor) -> Action:
        if term.gain.numel() == 1:
            return partial(target.add_, source, alpha=float(term.gain))
        return partial(target.addcmul_, source, self._number(term.gain))

    def _fire(self, fire: Fire, views: Views) -> Iterator[Action]:
        """``n = clip(⌊v/θ⌋, fewest, most)``, no less than −S where those are counted, then ``v −= n·θ``.

        Some rows at a time, while they are in the cache.
        """
        threshold, inverse = self._number(fire.threshold), self._inverse(fire)
        states = [views[name] for name in (fire.membrane, fire.target, fire.taken_back) if name is not None]
        rows = max(1, CACHE_BYTES // (4 * len(states) * states[0][0].numel()))
        for part in zip(*(torch.split(state, rows) for state in states), strict=True):
            yield from _fire_rows(part, threshold, inverse, fire.fewest, fire.most)

    def _fire_natively(self, fire: Fire, joined: list[GainTerm], views: Views, copies: Copies) -> list[Action]:
        """The same in one pass, which also adds ``joined`` first and writes the first copy; others are copied."""
        assert self.native is not None
        wanted = [copy for copy in copies if copy.name == fire.target]
        actions: list[Action] = [
            Firing(
                self.native,
                views[fire.membrane],
                self._number(fire.threshold),
                self._inverse(fire),
                fire.fewest,
                fire.most,
                taken_back=None if fire.taken_back is None else views[fire.taken_back],
                counts=None if fire.target in self.unused else views[fire.target],
                whole=wanted[0].interior(copies[wanted[0]]) if wanted else None,
                low=int(self._program.buffers[fire.target].low) if wanted else 0,
                joined=[self._bound(term, views, copies) for term in joined],
            )
        ]
        actions.extend(
            partial(other.interior(copies[other]).copy_, wanted[0].interior(copies[wanted[0]])) for other in wanted[1:]
        )
        return actions

    def _bound(self, term: GainTerm, views: Views, copies: Copies) -> Joined:
        """A term, read from bytes where there are any."""
        copy = next((copy for copy in copies if copy.name == term.source), None)
        source = views[term.source] if copy is None else copy.interior(copies[copy])
        low = 0 if copy is None else int(self._program.buffers[term.source].low)
        return Joined(gain=self._number(term.gain), source=source, low=low)

    def _inverse(self, fire: Fire) -> Tensor | None:
        """1/θ, where multiplying by it is exact.

        On whole numbers below 2^24, ⌊v/θ⌋ is ``⌊v·r + r/2⌋`` with r = 1/θ rounded, where three roundings cannot
        reach the next integer, which is half a step of 1/θ away.
        """
        largest = float(fire.threshold.max()) * (fire.most + 1)
        exact = self._program.exact and 6 * largest < EXACT_LIMIT
        return 1 / self._number(fire.threshold) if exact else None

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
        if isinstance(op, Concat):
            yield partial(torch.cat, sources, op.axis, out=target)
        elif isinstance(op, Mean) and apply.total:
            yield partial(torch.sum, sources[0], op.axes, op.keepdim, out=target)
        elif isinstance(op, AvgPool2d) and apply.total:
            window = (op.kernel, op.stride, op.padding, op.ceil_mode, op.count_include_pad, 1)
            yield partial(torch.ops.aten.avg_pool2d.out, sources[0], *window, out=target)
        elif apply.total:
            yield lambda: target.copy_(window_sum(op, sources[0]))
        else:
            yield lambda: target.copy_(op(*sources))
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
                whole, low = copy.interior(framed), int(self._program.buffers[name].low)
                yield partial(whole.view(torch.int8).copy_, views[name])
                if low:
                    yield partial(whole.add_, -low)

    def _number(self, value: Tensor) -> Tensor:
        """A constant of the program, ready to meet a buffer."""
        return value.to(self._device, torch.float32)


def _pairs(instructions: Sequence[Instruction]) -> Iterator[tuple[Instruction, Instruction | None]]:
    """Each with the one that follows it."""
    return zip_longest(instructions, instructions[1:])


def _per_output(term: SynapseTerm, constant: Tensor) -> bool:
    """Whether the constant is one number for each output channel, as a bias is."""
    return constant.shape == ((len(term.weight), 1, 1) if isinstance(term.op, Conv2d) else (len(term.weight),))


def _call(call: Call, views: Views) -> None:
    inputs, state = tuple(views[n] for n in call.sources), tuple(views[n] for n in call.state)
    if isinstance(call.op, Neuron) and call.counts is not None:
        count, state = call.op.fire(inputs[0], state)
        views[call.counts].copy_(count)
        views[call.target].copy_(call.op.emit(count))
    else:
        output, state = call.op.step(inputs, state)
        views[call.target].copy_(output)
    for name, tensor in zip(call.state, state, strict=True):
        views[name].copy_(tensor)


def _fire_rows(
    states: tuple[Tensor, ...], threshold: Tensor, inverse: Tensor | None, fewest: int, most: int
) -> Iterator[Action]:
    v, count, *taken_back = states
    if (fewest, most) == (0, 1):
        yield partial(torch.ge, v, threshold, out=count)
    else:
        if inverse is None:
            yield partial(torch.div, v, threshold, out=count)
        else:
            yield partial(torch.addcmul, inverse / 2, v, inverse, out=count)
        yield count.floor_
        yield partial(count.clamp_, fewest, most)
        if taken_back:
            yield partial(torch.maximum, count, taken_back[0], out=count)
            yield partial(taken_back[0].sub_, count)
    yield partial(v.addcmul_, count, threshold, value=-1)
