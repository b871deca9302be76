"""Ops to values: what each node of a network means as sums over buffers, and what it takes beyond sums."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IntegratingNeuron, StatefulOp, StatelessOp, Synapse
from seenn.core.ops.membrane import cut_off
from seenn.runtime.lowering.builder import Builder, of
from seenn.runtime.lowering.program import Compute, Exit, Fire, GainTerm, InputScale, Program, Sum, SynapseTerm, Term
from seenn.runtime.lowering.scales import Reach, Scale, Use
from seenn.runtime.lowering.values import Value, along, batched, compressed, integrate, spread

ZERO = torch.zeros((), dtype=torch.float64)


class ProgramLowering(Builder):
    """One walk over the graph: each op lowers itself in the words of ``seenn.core.ops.Lowering``."""

    def __init__(self, network: SpikingNetwork, scales: Scale, input_scale: InputScale | None) -> None:
        super().__init__(scales)
        self.network = network
        self.input_scale = input_scale
        self.shapes = network.shapes
        self.constant = False
        self.name, self.shape = INPUT, network.input_shape  # of the node that is being lowered

    def run(self) -> Program:
        """The whole network."""
        values = {INPUT: self._input()}
        network = self.network
        users, left, exits = network.graph.users(), list(network.graph), []
        for segment, cost in zip(network.segments, network.exit_costs, strict=True):
            own = {node.name for node in segment.nodes} | network.prefix
            self._lower([node for node in left if node.name in own], values, users)
            left = [node for node in left if node.name not in own]
            last = segment is network.segments[-1]
            output, scale = self.output("output" if last else f"{segment.output}.scores", values[segment.output], last)
            exits.append(Exit(stop=len(self.step), output=output, scale=scale, cost=cost))
        return Program(
            input_shape=self.network.input_shape,
            input_scale=self.input_scale,
            buffers=self.buffers,
            encode=tuple(self.encode),
            step=tuple(self.step),
            exits=tuple(exits),
            max_timesteps=self.scales.max_timesteps,
            report=tuple(self.scales.report),
            coarser=dict(self.scales.coarser),
        )

    def _lower(self, nodes: Sequence[Node], values: dict[str, Value], users: Mapping[str, Sequence[Node]]) -> None:
        for node in nodes:
            self.name, self.shape, self.constant = node.name, self.shapes[node.name], node.name in self.network.prefix
            value = node.op.lower(self, [values[name] for name in node.inputs])
            if len(users[node.name]) > 1 and value.synapses:  # a sum that several nodes read is computed once
                value = self.computed(node.name, value)
            values[node.name] = value

    def _input(self) -> Value:
        shape = self.shape
        if self.input_scale is None:
            self.buffer(INPUT, shape, "constant", -math.inf, math.inf)
            return of(INPUT, shape)
        self.buffer(INPUT, shape, "constant", self.input_scale.low, self.input_scale.high)
        step, offset = (
            along(torch.tensor(values, dtype=torch.float64), 0, len(shape)).expand(shape)
            for values in (self.input_scale.step, self.input_scale.offset)
        )
        term = GainTerm(source=INPUT, gain=step)
        return Value(shape=shape, terms=(term,), constant=offset if bool((offset != 0).any()) else None)

    def synapse(self, op: Synapse, x: Value) -> Value:
        term = SynapseTerm(layer=self.name, source="", op=op, weight=op.weight.detach().double())
        axis, dims = term.axis(len(x.shape)), len(self.shape)
        source, constant_in = self.computed(f"{self.name}.in", x, varies=axis).unit
        gain, groups = spread(source.gain, axis)[1], term.geometry.groups
        weight = term.weight
        per_group = gain.view(groups, 1, -1).expand(groups, len(weight) // groups, -1)
        weight = weight * per_group.reshape(len(weight), -1, *[1] * (weight.dim() - 2))
        bias = None if op.bias is None else op.bias.detach().double()
        constant: Tensor | None = None
        if constant_in is not None:
            constant = op.response(constant_in.unsqueeze(0), term.weight, bias).squeeze(0)
        elif bias is not None:
            constant = along(bias, term.axis(dims), dims).expand(self.shape)
        worth = along(gain, axis, len(x.shape))
        term = replace(term, source=source.source, weight=weight, gain=worth, beside=constant_in)
        return Value(shape=self.shape, terms=(term,), constant=constant)

    def fire(self, neuron: IntegratingNeuron, x: Value, *, slope: Tensor | None = None) -> Value:
        axis, shape, dims, name = neuron.axis - 1, x.shape, len(x.shape), self.name
        if any(term.axis(dims) != axis for term in x.synapses):
            x = self.computed(f"{name}.current", x)
        theta, v_init = (each.detach().double().expand(shape[axis]) for each in (neuron.v_threshold, neuron.v_init))
        x = x.plus(None if neuron.bias is None else along(neuron.bias.detach().double(), axis, dims))
        start, gain = float(v_init.abs().max()), 1.0
        leaks = slope is not None and bool((slope != 1).any())
        if slope is not None and leaks:  # without what was emitted the membrane holds v_init twice at most
            start, gain = 2 * start, max(1.0, float(slope.detach().abs().max()))
        use = Use(axis=axis, threshold=theta, start=start, spikes=neuron.max_spikes, gain=gain, steps=True)
        found = self.scales.scaled_sum(name, x, self.buffers, use)
        threshold, charge = (along(each, axis, dims) / found.scale for each in (theta, v_init * theta))
        threshold, charge = self.scales.rounded(threshold, least=1.0), self.scales.rounded(charge)
        state = partial(self.buffer, shape=shape, life="state", low=-math.inf, high=math.inf, dtype=found.dtype)
        # From 0 to θ, a warm start is no further from 0 than the proof takes any start to be.
        membrane = state(f"{name}.v", start=compressed(charge), carry=partial(_carried, compressed(threshold)))
        current = self.current(name, found, shape)
        taken_back = None
        if slope is not None and leaks:
            charged, before = state(f"{name}.charge", start=ZERO), state(f"{name}.before", start=ZERO)
            self.step.append(Sum(target=charged, terms=current.terms, constant=current.constant, accumulate=True))
            factor = along(slope.detach().double(), axis, dims) - 1
            function = partial(_leak, rounded=self.input_scale is not None)
            self.step.append(
                Compute(
                    what="leak",
                    target=membrane,
                    function=function,
                    sources=(charged,),
                    state=(before,),
                    constants=(factor,),
                )
            )
        elif neuron.signed and slope is None:
            taken_back = self.buffer(f"{name}.net", shape, "state", -math.inf, 0, ZERO)
        total = Sum(target=membrane, terms=current.terms, constant=current.constant, accumulate=True)
        fewest = -neuron.max_spikes if neuron.signed else 0
        spikes = self.buffer(name, shape, "scratch", fewest, neuron.max_spikes)
        self.step.append(
            Fire(
                target=spikes,
                membrane=membrane,
                current=None if leaks else total,
                taken_back=taken_back,
                threshold=compressed(threshold),
                fewest=fewest,
                most=neuron.max_spikes,
            )
        )
        worth = (threshold * found.scale).expand(shape)
        return Value(shape=shape, terms=(GainTerm(source=spikes, gain=worth),), constant=None)

    def add(self, inputs: Sequence[Value]) -> Value:
        terms: list[Term] = []
        constant: Tensor | None = None
        for number, value in enumerate(inputs):
            if value.shape != self.shape and value.synapses:
                value = self.computed(f"{self.name}.{number}", value)
            terms.extend(value.terms)
            if value.constant is not None:
                constant = value.constant if constant is None else constant + value.constant
        return Value(shape=self.shape, terms=tuple(terms), constant=None).plus(constant)

    def times(self, x: Value, factor: Tensor, shift: Tensor | None = None, axis: int | None = None) -> Value:
        axis, factor = None if axis is None else axis - 1, factor.detach().double()
        scaled = x.times(factor, axis) or self.computed(f"{self.name}.sum", x).times(factor, axis)
        assert scaled is not None
        return scaled.plus(None if shift is None else along(shift.detach().double(), axis, len(x.shape)))

    def move(self, op: StatelessOp, x: Value) -> Value:
        source, constant = self.computed(f"{self.name}.in", x).unit
        target = self._written(op, [source.source])
        gain = batched(op, source.gain)
        own = batched(op, torch.ones_like(source.gain)) == 0
        if bool(own.any()):  # its zeros are worth what the rest of their channel is, or anything
            worth = spread(torch.where(own, 0.0, gain), 0)[1]
            gain = torch.where(own, along(torch.where(worth == 0, worth.max(), worth), 0, gain.dim()), gain)
        return self._of(target, gain, None if constant is None else batched(op, constant))

    def concat(self, op: StatelessOp, inputs: Sequence[Value]) -> Value:
        parts = [self.computed(f"{self.name}.{number}", value).unit for number, value in enumerate(inputs)]
        names = [source.source for source, _ in parts]
        target = self._written(op, names)
        constant = None
        if any(part is not None for _, part in parts):
            constant = batched(op, *(torch.zeros_like(s.gain) if part is None else part for s, part in parts))
        return self._of(target, batched(op, *(source.gain for source, _ in parts)), constant)

    def average(self, op: StatelessOp, x: Value, *, across_channels: bool = False) -> Value:
        """The sum over each window, in integers; the divisor goes into what a unit is worth."""
        term, constant = self.computed(f"{self.name}.in", x, varies=None if across_channels else 0).unit
        ones = torch.ones(x.shape, dtype=torch.float64)
        share = batched(op, ones)  # valid elements / divisor
        inside = op.route(ones.unsqueeze(0)).squeeze(0)
        divisor = (inside / share).round()
        common = float(math.lcm(*{int(d) for d in divisor.flatten().tolist()}))
        factor = compressed(common / divisor)
        most = float((inside * (common / divisor)).max())
        target = self.like(self.name, self.shape, [term.source], most)
        constants = () if bool((factor == 1).all()) else (factor,)
        function = partial(_add_up, op)
        self.emit(
            Compute(
                what="add_up",
                op=op,
                target=target,
                function=function,
                sources=(term.source,),
                constants=constants,
                windows=op.windows(x.shape, self.shape),
            )
        )
        self.scales.proven(self.name, Reach(per_step=self.reach(term.source) * most))
        unit = batched(op, term.gain) / share / common
        return self._of(target, unit, None if constant is None else batched(op, constant))

    def select(self, op: StatelessOp, x: Value) -> Value:
        unit, _ = self.computed(f"{self.name}.0", x, varies=0, closed=True).unit
        target = self._written(op, [unit.source])
        return of(target, self.shape, spread(unit.gain, 0)[1])

    def difference(self, op: StatelessOp, x: Value) -> Value:
        term, _ = self.computed(f"{self.name}.in", x, varies=0, closed=True).unit
        source = self.buffers[term.source]
        dtype = self.scales.proven(self.name, Reach(per_step=self.reach(term.source)), steps=True)
        total = self.buffer(f"{self.name}.total", x.shape, "state", -math.inf, math.inf, ZERO, dtype)
        before = self.buffer(f"{self.name}.before", self.shape, "state", -math.inf, math.inf, ZERO, dtype)
        target = self.buffer(self.name, self.shape, "scratch", source.low, source.high)
        function = partial(_difference, op)
        self.step.append(
            Compute(
                what="difference",
                op=op,
                target=target,
                function=function,
                sources=(term.source,),
                state=(total, before),
            )
        )
        return of(target, self.shape, spread(term.gain, 0)[1])

    def function(self, op: StatelessOp, inputs: Sequence[Value], why: str) -> Value:
        units = [
            self.computed(f"{self.name}.{n}", value, varies=0, closed=True, real=True).unit[0].source
            for n, value in enumerate(inputs)
        ]
        target = self._written(op, units)
        return of(target, self.shape)

    def call(self, op: StatefulOp, inputs: Sequence[Value], why: str, *, cumulates: StatelessOp | None = None) -> Value:
        values = [self.computed(f"{self.name}.{n}", value, closed=True, real=True) for n, value in enumerate(inputs)]
        names = tuple(value.unit[0].source for value in values)
        example = op.initial_state(*(torch.zeros(1, *value.shape) for value in values))
        state = []
        for name, tensor in zip(op.state_names(len(names)), example, strict=True):
            start = compressed(tensor[0].detach().double())
            shape = tuple(tensor.shape[1:])
            carry = op.carry if name == op.carried else None
            state.append(self.buffer(f"{self.name}.{name}", shape, "state", -math.inf, math.inf, start, carry=carry))
        target = self.buffer(self.name, self.shape, "scratch", -math.inf, math.inf)
        counts = None
        if op.fires:
            counts = self.buffer(f"{self.name}.count", self.shape, "scratch", -math.inf, math.inf)
            state.append(counts)
        function = partial(_take_step, op, len(names))
        self.step.append(
            Compute(
                what="step" if cumulates is None else "cumulate",
                op=cumulates or op,
                target=target,
                function=function,
                sources=names,
                state=tuple(state),
                counts=counts,
            )
        )
        return of(target, self.shape)

    def _written(self, op: StatelessOp, sources: Sequence[str]) -> str:
        """The buffer into which ``op`` writes what it makes of ``sources``."""
        target = self.like(self.name, self.shape, sources)
        self.emit(Compute(what="write", op=op, target=target, function=op.write, sources=tuple(sources)))
        return target

    def _of(self, target: str, gain: Tensor, constant: Tensor | None) -> Value:
        return Value(shape=self.shape, terms=(GainTerm(source=target, gain=gain),), constant=constant)


def _carried(threshold: Tensor, v: Tensor) -> Tensor:
    """What a warm start makes of a membrane."""
    return cut_off(v, threshold.to(v.device, v.dtype))


def _leak(target: Tensor, charge: Tensor, before: Tensor, factor: Tensor, *, rounded: bool) -> None:
    """``target += f(charge) − before; before ← f(charge)`` with f(c) = c + factor·min(c, 0).

    On integers f is rounded. What it adds up to is f(charge) all the same, so that no error grows.
    """
    target.sub_(before)
    if before.is_floating_point():
        torch.clamp(charge, max=0, out=before)
        before.mul_(factor)
        if rounded:
            before.round_()
    else:
        before.copy_((charge.clamp(max=0).double() * factor).round_())
    target.add_(before.add_(charge))


def _add_up(op: StatelessOp, target: Tensor, source: Tensor, gain: Tensor | None = None) -> None:
    """What an average adds up, times ``gain``."""
    target.copy_(op.route(source))
    if gain is not None:
        target.mul_(gain)


def _difference(op: StatelessOp, target: Tensor, source: Tensor, total: Tensor, before: Tensor) -> None:
    """A homogeneous op on running sums: ``total += source; target ← op(total) − before; before ← op(total)``."""
    integrate(total, source)
    now = op(total if total.is_floating_point() else total.double())
    torch.sub(now, before, out=target)
    integrate(before, target)


def _take_step(op: StatefulOp, arity: int, target: Tensor, *buffers: Tensor) -> None:
    """A step of ``op``, whose spike counts, where it has some, are the last of its state."""
    inputs, kept = buffers[:arity], buffers[arity:]
    output, count, state = op.counted_step(inputs, kept[: len(kept) - op.fires], in_place=True)
    given = (output, *state) if count is None else (output, *state, count)
    for buffer, values in zip((target, *kept), given, strict=False):
        buffer.copy_(values)


class _Obstacles:
    """A lowering that computes nothing: it notes what has no integer form."""

    def __init__(self) -> None:
        self.constant = False
        self.found: list[str] = []

    def _possible(self, *args: Any, **options: Any) -> None:
        """Has one."""

    synapse = fire = add = times = move = concat = average = select = difference = _possible

    def function(self, op: StatelessOp, inputs: Sequence[None], why: str) -> None:
        self.found.append(why)

    def call(self, op: StatefulOp, inputs: Sequence[None], why: str, *, cumulates: StatelessOp | None = None) -> None:
        self.found.append(why)


def obstacles(network: SpikingNetwork) -> list[str]:
    """Every node without an exact integer form, and why."""
    found: list[str] = []
    for node in network.graph:
        noted = _Obstacles()
        noted.constant = node.name in network.prefix
        node.op.lower(noted, [None] * len(node.inputs))
        found.extend(f"{node.name} ({node.op.kind}): {why}" for why in noted.found)
    return found
