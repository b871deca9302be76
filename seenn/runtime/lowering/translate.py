"""Ops to values: what each node of a network means as sums over buffers, and what it takes beyond sums."""

from __future__ import annotations

import math
from typing import TypeGuard

import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    ChannelAffine,
    Concat,
    Conv2d,
    CumulativeDifference,
    Flatten,
    IFNeuron,
    MaxPool2d,
    Mean,
    Neuron,
    Op,
    Pad,
    Permute,
    Reshape,
    Resize,
    Scale,
    Slice,
    StatefulOp,
    StatelessOp,
    Synapse,
    TwoSidedIFNeuron,
)
from seenn.runtime.lowering.builder import Builder, of
from seenn.runtime.lowering.program import Apply, Call, Difference, Fire, InputGrid, Leak, Program, Sum, window_sum
from seenn.runtime.lowering.settle import FloatGrid, IntegerGrid, Use
from seenn.runtime.lowering.values import Scaled, Value, Weighted, along, batched, compressed, spread

MOVES = (Flatten, Reshape, Permute, Slice, Pad)
AVERAGES = (AvgPool2d, AdaptiveAvgPool2d, Mean)
MAXIMA = (MaxPool2d, AdaptiveMaxPool2d)
NEURONS = (IFNeuron, TwoSidedIFNeuron)
LINEAR = (Synapse, Add, Concat, Scale, ChannelAffine, BatchNorm, *MOVES, *AVERAGES)


def moves(op: Op) -> TypeGuard[StatelessOp]:
    """Whether an op only puts values elsewhere: what they are worth goes with them."""
    return isinstance(op, MOVES) or (isinstance(op, Resize) and op.mode in ("nearest", "nearest-exact"))


def inner_op(op: Op) -> Op:
    return op.op if isinstance(op, CumulativeDifference) else op


class Translation(Builder):
    """One walk over the graph; ``values`` holds what each node computes, as far as it is not yet computed."""

    def __init__(self, network: SpikingNetwork, grid: FloatGrid | IntegerGrid, pixels: InputGrid | None) -> None:
        super().__init__(grid)
        self.network = network
        self.pixels = pixels
        self.values: dict[str, Value] = {}
        self.shapes = network.graph.shapes(network.input_shape)
        self.users = {name: len(nodes) for name, nodes in network.graph.users().items()}

    def run(self) -> Program:
        self.values[INPUT] = self._input()
        for node in self.network.graph:
            self.values[node.name] = self._shared(node, self._lower(node, [self.values[i] for i in node.inputs]))
        output, scale = self.output(self.values[self.network.graph.output])
        return Program(
            input_shape=self.network.input_shape,
            grid=self.pixels,
            buffers=self.buffers,
            encode=tuple(self.encode),
            step=tuple(self.step),
            output=output,
            output_scale=scale,
            max_timesteps=self.grid.max_timesteps,
            report=tuple(self.grid.report),
            coarser=dict(self.grid.coarser),
        )

    def _input(self) -> Value:
        shape = self.network.input_shape
        if self.pixels is None:
            self.buffer(INPUT, shape, "constant", -math.inf, math.inf)
            return of(INPUT, shape)
        self.buffer(INPUT, shape, "constant", self.pixels.low, self.pixels.high)
        step, offset = (
            along(torch.tensor(values, dtype=torch.float64), 0, len(shape)).expand(shape)
            for values in (self.pixels.step, self.pixels.offset)
        )
        return Value(
            shape=shape,
            terms=(Scaled(source=INPUT, gain=step),),
            constant=offset if bool((offset != 0).any()) else None,
        )

    def _lower(self, node: Node, inputs: list[Value]) -> Value:
        op = node.op
        if isinstance(op, Synapse):
            return self._synapse(node, op, inputs[0])
        if isinstance(op, NEURONS):
            return self._neuron(node, op, inputs[0])
        if isinstance(op, Add):
            return self._add(node, inputs)
        if isinstance(op, Scale):
            return self._times(node, inputs[0], torch.tensor(op.factor, dtype=torch.float64), None, None)
        if isinstance(op, BatchNorm):
            scale, shift = op.as_affine()
            return self._times(node, inputs[0], scale.detach().double(), shift.detach().double(), 0)
        if isinstance(op, ChannelAffine):
            bias = None if op.bias is None else op.bias.detach().double()
            return self._times(node, inputs[0], op.weight.detach().double(), bias, op.axis - 1)
        if moves(op):
            return self._move(node, op, inputs[0])
        if isinstance(op, Concat):
            return self._concat(node, op, inputs)
        if isinstance(op, AVERAGES):
            return self._average(node, op, inputs[0])
        if isinstance(inner := inner_op(op), StatelessOp) and (node.name in self.network.prefix or inner is op):
            return self._function(node, inner, inputs)
        if isinstance(op, CumulativeDifference) and isinstance(op.op, MAXIMA):
            return self._difference(node, op.op, inputs[0])
        assert isinstance(op, StatefulOp)
        return self._call(node, op, inputs)

    def _synapse(self, node: Node, op: Synapse, value: Value) -> Value:
        weight = op.weight.detach().double()
        axis = 0 if isinstance(op, Conv2d) else len(value.shape) - 1
        source, constant_in = self.computed(f"{node.name}.in", value, varies=axis).unit
        gain = spread(source.gain, axis)[1]
        if isinstance(op, Conv2d):
            per_group = gain.view(op.groups, 1, -1).expand(op.groups, len(weight) // op.groups, -1)
            weight = weight * per_group.reshape(len(weight), -1, 1, 1)
        else:
            weight = weight * gain
        if isinstance(self.grid, IntegerGrid):
            self.grid.calibration.enter(node.name, constant_in, along(gain, axis, len(value.shape)))
        out_axis = 0 if isinstance(op, Conv2d) else len(self.shapes[node.name]) - 1
        constant: Tensor | None = None
        if constant_in is not None:
            bias = None if op.bias is None else op.bias.detach().double()
            constant = op.response(constant_in.unsqueeze(0), op.weight.detach().double(), bias).squeeze(0)
        elif op.bias is not None:
            shape = self.shapes[node.name]
            constant = along(op.bias.detach().double(), out_axis, len(shape)).expand(shape)
        term = Weighted(layer=node.name, source=source.source, op=op, weight=weight, axis=out_axis)
        return Value(shape=self.shapes[node.name], terms=(term,), constant=constant)

    def _neuron(self, node: Node, op: IFNeuron | TwoSidedIFNeuron, value: Value) -> Value:
        axis, shape = op.axis - 1, value.shape
        if any(isinstance(t, Weighted) and t.axis != axis for t in value.terms):
            value = self.computed(f"{node.name}.current", value)
        theta, v_init = (x.detach().double().expand(shape[axis]) for x in (op.v_threshold, op.v_init))
        value = value.plus(None if op.bias is None else along(op.bias.detach().double(), axis, len(shape)))
        start, gain = float(v_init.abs().max()), 1.0
        if isinstance(op, TwoSidedIFNeuron):  # without what was emitted the membrane holds v_init twice at most
            start, gain = 2 * start, max(1.0, float(op.slope.abs().max()))
        use = Use(axis=axis, threshold=theta, start=start, gain=gain, steps=True)
        settled = self.grid.settle(node.name, value, self.buffers, use)
        theta_whole, charge = (along(x, axis, len(shape)) / settled.scale for x in (theta, v_init * theta))
        if isinstance(self.grid, IntegerGrid):
            theta_whole, charge = theta_whole.round().clamp(min=1), charge.round()
        membrane = self.buffer(f"{node.name}.v", shape, "state", -math.inf, math.inf, compressed(charge))
        current = self.current(node.name, settled, shape)
        zero = torch.zeros((), dtype=torch.float64)
        taken_back = None
        if isinstance(op, TwoSidedIFNeuron):
            charged, before = (
                self.buffer(f"{node.name}.{part}", shape, "state", -math.inf, math.inf, zero)
                for part in ("charge", "before")
            )
            self.step.append(Sum(target=charged, terms=current.terms, constant=current.constant, accumulate=True))
            slope = along(op.slope.detach().double(), axis, len(shape))
            self.step.append(Leak(target=membrane, charge=charged, before=before, slope=slope))
        else:
            self.step.append(Sum(target=membrane, terms=current.terms, constant=current.constant, accumulate=True))
            if op.signed:
                taken_back = self.buffer(f"{node.name}.net", shape, "state", -math.inf, 0, zero)
        fewest = -op.max_spikes if op.signed else 0
        spikes = self.buffer(node.name, shape, "scratch", fewest, op.max_spikes)
        self.step.append(
            Fire(
                site=node.name,
                target=spikes,
                membrane=membrane,
                taken_back=taken_back,
                threshold=compressed(theta_whole),
                fewest=fewest,
                most=op.max_spikes,
            )
        )
        worth = (theta_whole * settled.scale).expand(shape)
        return Value(shape=shape, terms=(Scaled(source=spikes, gain=worth),), constant=None)

    def _add(self, node: Node, inputs: list[Value]) -> Value:
        shape = self.shapes[node.name]
        terms: list[Weighted | Scaled] = []
        constant: Tensor | None = None
        for number, value in enumerate(inputs):
            if value.shape != shape and any(isinstance(t, Weighted) for t in value.terms):
                value = self.computed(f"{node.name}.{number}", value)
            terms.extend(value.terms)
            if value.constant is not None:
                constant = value.constant if constant is None else constant + value.constant
        return Value(shape=shape, terms=tuple(terms), constant=None if constant is None else constant.expand(shape))

    def _times(self, node: Node, value: Value, factor: Tensor, shift: Tensor | None, axis: int | None) -> Value:
        scaled = value.times(factor, axis) or self.computed(f"{node.name}.sum", value).times(factor, axis)
        assert scaled is not None
        return scaled.plus(None if shift is None or axis is None else along(shift, axis, len(value.shape)))

    def _move(self, node: Node, op: StatelessOp, value: Value) -> Value:
        source, constant = self.computed(f"{node.name}.in", value).unit
        target = self.like(node.name, self.shapes[node.name], [source.source])
        self.emit(Apply(target=target, op=op, sources=(source.source,)))
        gain = batched(op, source.gain)
        if isinstance(op, Pad):
            worth = spread(gain, 0)[1]  # zeros are worth what the rest of their channel is, or anything
            gain = torch.where(gain == 0, along(torch.where(worth == 0, worth.max(), worth), 0, gain.dim()), gain)
        constant = None if constant is None else batched(op, constant)
        return Value(shape=self.shapes[node.name], terms=(Scaled(source=target, gain=gain),), constant=constant)

    def _concat(self, node: Node, op: Concat, inputs: list[Value]) -> Value:
        parts = [self.computed(f"{node.name}.{number}", value).unit for number, value in enumerate(inputs)]
        names = [source.source for source, _ in parts]
        target = self.like(node.name, self.shapes[node.name], names)
        self.emit(Apply(target=target, op=op, sources=tuple(names)))
        gain = batched(op, *(source.gain for source, _ in parts))
        constant = None
        if any(part is not None for _, part in parts):
            constant = batched(op, *(torch.zeros_like(s.gain) if part is None else part for s, part in parts))
        return Value(shape=self.shapes[node.name], terms=(Scaled(source=target, gain=gain),), constant=constant)

    def _average(self, node: Node, op: StatelessOp, value: Value) -> Value:
        """The sum over each window, in whole numbers; the divisor goes into what a unit is worth."""
        across = isinstance(op, Mean) and 1 in op.axes
        term, constant = self.computed(f"{node.name}.in", value, varies=None if across else 0).unit
        ones = torch.ones(value.shape, dtype=torch.float64)
        share = batched(op, ones)  # valid elements / divisor
        inside = window_sum(op, ones.unsqueeze(0)).squeeze(0)
        divisor = (inside / share).round()
        common = float(math.lcm(*{int(d) for d in divisor.flatten().tolist()}))
        gain = compressed(common / divisor)
        buffer = self.buffers[term.source]
        most = float((inside * (common / divisor)).max())
        target = self.like(node.name, self.shapes[node.name], [term.source], most)
        self.emit(
            Apply(
                target=target, op=op, sources=(term.source,), total=True, gain=None if bool((gain == 1).all()) else gain
            )
        )
        if isinstance(self.grid, IntegerGrid):
            self.grid.proven(node.name, max(abs(buffer.low), abs(buffer.high)) * most)
        unit = batched(op, term.gain) / share / common
        constant = None if constant is None else batched(op, constant)
        return Value(shape=self.shapes[node.name], terms=(Scaled(source=target, gain=unit),), constant=constant)

    def _function(self, node: Node, op: StatelessOp, inputs: list[Value]) -> Value:
        """Something that is not affine: computed on values with their constants in them."""
        greatest = isinstance(op, MAXIMA)
        units = [
            self.computed(f"{node.name}.{n}", value, varies=0, whole=True, real=not greatest).unit[0]
            for n, value in enumerate(inputs)
        ]
        target = self.like(node.name, self.shapes[node.name], [unit.source for unit in units])
        self.emit(Apply(target=target, op=op, sources=tuple(unit.source for unit in units)))
        return of(target, self.shapes[node.name], spread(units[0].gain, 0)[1] if greatest else None)

    def _difference(self, node: Node, op: StatelessOp, value: Value) -> Value:
        term, _ = self.computed(f"{node.name}.in", value, varies=0, whole=True).unit
        source = self.buffers[term.source]
        zero = torch.zeros((), dtype=torch.float64)
        total = self.buffer(f"{node.name}.total", value.shape, "state", -math.inf, math.inf, zero)
        shape = self.shapes[node.name]
        before = self.buffer(f"{node.name}.before", shape, "state", -math.inf, math.inf, zero)
        target = self.buffer(node.name, shape, "scratch", source.low, source.high)
        self.step.append(Difference(target=target, op=op, source=term.source, total=total, before=before))
        if isinstance(self.grid, IntegerGrid):
            self.grid.proven(node.name, max(abs(source.low), abs(source.high)), steps=True)
        return of(target, shape, spread(term.gain, 0)[1])

    def _call(self, node: Node, op: StatefulOp, inputs: list[Value]) -> Value:
        """An op that only floats can run, as it is."""
        values = [self.computed(f"{node.name}.{n}", value, whole=True, real=True) for n, value in enumerate(inputs)]
        names = tuple(value.unit[0].source for value in values)
        example = op.initial_state(*(torch.zeros(1, *value.shape) for value in values))
        state = []
        for name, tensor in zip(op.state_names(len(names)), example, strict=True):
            start = compressed(tensor[0].detach().double())
            state.append(
                self.buffer(f"{node.name}.{name}", tuple(tensor.shape[1:]), "state", -math.inf, math.inf, start)
            )
        shape = self.shapes[node.name]
        target = self.buffer(node.name, shape, "scratch", -math.inf, math.inf)
        counts = None
        if isinstance(op, Neuron):
            counts = self.buffer(f"{node.name}.count", shape, "scratch", -math.inf, math.inf)
        self.step.append(Call(target=target, op=op, sources=names, state=tuple(state), counts=counts))
        return of(target, shape)

    def _shared(self, node: Node, value: Value) -> Value:
        """A sum over synapses that several nodes read is computed once."""
        if self.users[node.name] > 1 and any(isinstance(t, Weighted) for t in value.terms):
            return self.computed(node.name, value)
        return value
