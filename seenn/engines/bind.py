"""Instructions to calls: each bound to the memory that it reads and writes, so that a step allocates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seenn.engines.kernels import Accumulate, Kernel
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
    spikes: Tensor | None = None  # their counts

    def run(self) -> None:
        """Does it."""
        for action in self.actions:
            action()


class Binder:
    """Packs a program's weights once and binds its instructions to buffers as often as needed.

    Args:
        program: what to run.
        kernels: in order of preference; the first that accepts a synapse computes it.
        device: where the buffers are.
    """

    def __init__(self, program: Program, kernels: Sequence[Kernel], device: torch.device) -> None:
        self._program = program
        self._device = device
        self._kernels: dict[int, Kernel] = {}
        self._packed: dict[tuple[int, int], Accumulate] = {}
        self.copies: dict[str, torch.dtype] = {}  # buffers that a kernel wants in another type as well
        layers: dict[str, int] = {}
        for instruction in (*program.encode, *program.step):
            for term in instruction.terms if isinstance(instruction, Sum) else ():
                if isinstance(term, SynapseTerm):
                    kernel = next(k for k in kernels if k.accepts(term, program.buffers[term.source]))
                    self._kernels[id(term)] = kernel
                    layers[kernel.name] = layers.get(kernel.name, 0) + 1
                    if kernel.dtype == torch.uint8:
                        self.copies[term.source] = torch.uint8
        self.note = ", ".join(f"{count} synapses by {name}" for name, count in layers.items())

    def _accumulate(self, term: SynapseTerm, rows: int) -> Accumulate:
        """Packed for this number of rows: oneDNN's best layout of the weights depends on it."""
        key = id(term), rows
        if key not in self._packed:
            source = self._program.buffers[term.source]
            self._packed[key] = self._kernels[id(term)].prepare(term, source, rows, self._device)
        return self._packed[key]

    def bind(self, instructions: Iterable[Instruction], views: Views, copies: Views) -> list[Thunk]:
        """The instructions in order, on these rows."""
        thunks = []
        for instruction in instructions:
            actions = list(self._actions(instruction, views, copies))
            if instruction.target in copies:
                actions.extend(self._copied(instruction.target, views, copies))
            site = spikes = None
            if isinstance(instruction, Fire):
                site, spikes = instruction.site, views[instruction.target]
            elif isinstance(instruction, Call) and instruction.counts is not None:
                site, spikes = instruction.target, views[instruction.counts]
            thunks.append(Thunk(instruction.target, tuple(actions), site, spikes))
        return thunks

    def _actions(self, instruction: Instruction, views: Views, copies: Views) -> Iterator[Action]:
        if isinstance(instruction, Sum):
            yield from self._sum(instruction, views, copies)
        elif isinstance(instruction, Fire):
            yield from self._fire(instruction, views)
        elif isinstance(instruction, Leak):
            yield from self._leak(instruction, views)
        elif isinstance(instruction, Apply):
            yield from self._apply(instruction, views)
        elif isinstance(instruction, Difference):
            yield from self._difference(instruction, views)
        else:
            yield partial(_call, instruction, views)

    def _sum(self, instruction: Sum, views: Views, copies: Views) -> Iterator[Action]:
        target = views[instruction.target]
        terms = list(instruction.terms)
        constant = None if instruction.constant is None else self._number(instruction.constant)
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
            accumulate = self._accumulate(term, len(target))
            wants = self._kernels[id(term)].dtype
            source = copies[term.source] if wants == torch.uint8 else views[term.source]
            bias = None
            if constant is not None and _per_output(term, instruction.constant):
                bias, constant = constant.flatten(), None
            yield partial(accumulate, target, source, bias)
        if constant is not None:
            yield partial(target.add_, constant)

    def _gain(self, term: GainTerm, source: Tensor, target: Tensor) -> Action:
        if term.gain.numel() == 1:
            return partial(target.add_, source, alpha=float(term.gain))
        return partial(target.addcmul_, source, self._number(term.gain))

    def _fire(self, fire: Fire, views: Views) -> Iterator[Action]:
        """``n = clip(⌊v/θ⌋, fewest, most)``, no less than −S where those are counted, then ``v −= n·θ``.

        Some rows at a time, while they are in the cache. On whole numbers below 2^24 all of it is exact: ⌊v/θ⌋ is
        computed as ``⌊v·r + r/2⌋`` with r = 1/θ rounded where three roundings cannot reach the next integer, which
        is half a step of 1/θ away.
        """
        threshold = self._number(fire.threshold)
        states = [views[name] for name in (fire.membrane, fire.target, fire.taken_back) if name is not None]
        rows = max(1, CACHE_BYTES // (4 * len(states) * states[0][0].numel()))
        largest = float(fire.threshold.max()) * (fire.most + 1)
        inverse = 1 / threshold if self._program.exact and 6 * largest < EXACT_LIMIT else None
        for part in zip(*(torch.split(state, rows) for state in states), strict=True):
            yield from _fire_rows(part, threshold, inverse, fire.fewest, fire.most)

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

    def _copied(self, name: str, views: Views, copies: Views) -> Iterator[Action]:
        """Counts as bytes, from 0: two's complement, then shifted by the lowest count."""
        whole, low = copies[name], int(self._program.buffers[name].low)
        yield partial(whole.view(torch.int8).copy_, views[name])
        if low:
            yield partial(whole.add_, -low)

    def _number(self, value: Tensor) -> Tensor:
        """A constant of the program, ready to meet a buffer."""
        return value.to(self._device, torch.float32)


def _per_output(term: SynapseTerm, constant: Tensor | None) -> bool:
    """Whether the constant is one number for each output channel, as a bias is."""
    channels = (len(term.weight), 1, 1) if isinstance(term.op, Conv2d) else (len(term.weight),)
    return constant is not None and constant.shape == channels


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
