"""``SpikingNetwork`` to ``Program``: thresholds folded, sums fused into membranes, integers where asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError
from seenn.graph import INPUT, Node
from seenn.lowering.program import (
    Apply,
    Buffer,
    Call,
    Difference,
    Fire,
    GainTerm,
    InputGrid,
    Instruction,
    Life,
    Program,
    Sum,
)
from seenn.lowering.rounding import Calibration, NoCalibration
from seenn.lowering.settle import FloatGrid, IntegerGrid, Settled
from seenn.lowering.values import Scaled, Value, Weighted, along, batched, compressed, spread
from seenn.network import SpikingNetwork
from seenn.ops import (
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
    IntegratingNeuron,
    MaxPool2d,
    Mean,
    Neuron,
    Op,
    Pad,
    Permute,
    Reshape,
    Scale,
    Slice,
    StatefulOp,
    StatelessOp,
    Synapse,
)
from seenn.ops.arguments import integer

MOVES = (Flatten, Reshape, Permute, Slice, Pad)
AVERAGES = (AvgPool2d, AdaptiveAvgPool2d, Mean)
MAXIMA = (MaxPool2d, AdaptiveMaxPool2d)
LINEAR = (Synapse, Add, Concat, Scale, ChannelAffine, BatchNorm, *MOVES, *AVERAGES)


def lower(
    network: SpikingNetwork,
    *,
    timesteps: int,
    preprocessing: Preprocessing | None = None,
    float_sites: Iterable[str] = (),
    calibration: Tensor | None = None,
) -> Program:
    """The network in whole numbers: spikes, exits and labels no longer depend on how it is run.

    Args:
        network: integrate-and-fire neurons with soft reset; affine ops and max-pooling between them.
        timesteps: T up to which no value may leave the range in which float32 is exact.
        preprocessing: makes the grid of the input that of 8-bit pixels; without it, the input is rounded to
            a fixed-point grid (``InputGrid.fixed_point``).
        float_sites: names of layers that are kept out of int8: their weights get as many levels as the exact
            range allows.
        calibration: preprocessed images ``[N, C, H, W]`` on which rounding is judged and mean errors are
            corrected; without them, the largest weight of each channel decides.

    Raises:
        UnsupportedError: a node has no integer form, or a value could leave the exact range; lists all.
        ValueError: ``timesteps < 1``, or ``float_sites`` names no synapse of this network.
    """
    integer("timesteps", timesteps, low=1)
    named = frozenset(float_sites)
    layers = {node.name for node in network.graph if isinstance(node.op, Synapse)}
    if unknown := sorted(named - layers):
        raise ValueError(
            f"there are no layers {', '.join(unknown)} to keep in float: choose from {', '.join(sorted(layers))}"
        )
    if problems := [
        f"{node.name} ({node.op.kind}): {why}" for node in network.graph if (why := obstacle(node, network))
    ]:
        raise UnsupportedError(
            f"{len(problems)} nodes have no exact integer form: {'; '.join(problems)}. "
            "Run this network with the float32 or the reference engine"
        )
    found = NoCalibration() if calibration is None else Calibration(network, calibration, timesteps)
    grid = IntegerGrid(timesteps=timesteps, float_sites=named, calibration=found)
    channels = network.input_shape[0]
    pixels = InputGrid.fixed_point(channels) if preprocessing is None else InputGrid.pixels(preprocessing)
    program = _Lowering(network, grid, pixels).run()
    if grid.problems:
        raise UnsupportedError(
            f"{len(grid.problems)} sums could leave the range in which float32 is exact (16,777,216): "
            f"{'; '.join(grid.problems)}. Run fewer timesteps, or use the float32 or the reference engine"
        )
    return program


def fold(network: SpikingNetwork) -> Program:
    """The same fusion in float: counts and membranes are those of the reference engine up to rounding."""
    return _Lowering(network, FloatGrid(), None).run()


def obstacle(node: Node, network: SpikingNetwork) -> str | None:
    """Why a node has no exact integer form; None where it has one."""
    op = node.op
    if isinstance(op, LINEAR) or (node.name in network.prefix and isinstance(_inner(op), MAXIMA)):
        return None
    if type(op) is IFNeuron:
        return None
    if isinstance(op, CumulativeDifference):
        return None if isinstance(op.op, MAXIMA) else f"{op.op.kind} of a running mean is not whole-numbered"
    if op.affine or isinstance(op, IntegratingNeuron):
        return "this kind is not lowered"
    if isinstance(op, StatefulOp):
        return "its state does not stay on a grid (a leak, or a reset that is not by subtraction)"
    return "it is neither affine, nor a neuron, nor a maximum"


def _inner(op: Op) -> Op:
    return op.op if isinstance(op, CumulativeDifference) else op


class _Lowering:
    """One walk over the graph; ``values`` holds what each node computes, as far as it is not yet computed."""

    def __init__(self, network: SpikingNetwork, grid: FloatGrid | IntegerGrid, pixels: InputGrid | None) -> None:
        self.network = network
        self.grid = grid
        self.pixels = pixels
        self.buffers: dict[str, Buffer] = {}
        self.encode: list[Instruction] = []
        self.step: list[Instruction] = []
        self.values: dict[str, Value] = {}
        shapes = network.graph.shapes(network.input_shape)
        self.shapes = shapes
        self.users = {name: len(nodes) for name, nodes in network.graph.users().items()}

    def run(self) -> Program:
        self.values[INPUT] = self._input()
        for node in self.network.graph:
            self.values[node.name] = self._shared(node, self._lower(node, [self.values[i] for i in node.inputs]))
        output, scale = self._output(self.values[self.network.graph.output])
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
        )

    def _input(self) -> Value:
        shape = self.network.input_shape
        if self.pixels is None:
            self._buffer(INPUT, shape, "constant", -math.inf, math.inf)
            return _of(INPUT, shape)
        self._buffer(INPUT, shape, "constant", self.pixels.low, self.pixels.high)
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
        if type(op) is IFNeuron:
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
        if isinstance(op, MOVES):
            return self._move(node, op, inputs[0])
        if isinstance(op, Concat):
            return self._concat(node, op, inputs)
        if isinstance(op, AVERAGES):
            return self._average(node, op, inputs[0])
        if isinstance(inner := _inner(op), StatelessOp) and (node.name in self.network.prefix or inner is op):
            return self._function(node, inner, inputs)
        if isinstance(op, CumulativeDifference) and isinstance(op.op, MAXIMA):
            return self._difference(node, op.op, inputs[0])
        assert isinstance(op, StatefulOp)
        return self._call(node, op, inputs)

    def _synapse(self, node: Node, op: Synapse, value: Value) -> Value:
        weight = op.weight.detach().double()
        axis = 0 if isinstance(op, Conv2d) else len(value.shape) - 1
        source, constant_in = self._computed(f"{node.name}.in", value, varies=axis).unit
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

    def _neuron(self, node: Node, op: IFNeuron, value: Value) -> Value:
        axis, shape = op.axis - 1, value.shape
        if any(isinstance(t, Weighted) and t.axis != axis for t in value.terms):
            value = self._computed(f"{node.name}.current", value)
        theta = op.v_threshold.detach().double().expand(shape[axis])
        bias = None if op.bias is None else along(op.bias.detach().double(), axis, len(shape))
        value = value.plus(bias)
        v_init = op.v_init.detach().double().expand(shape[axis])
        settled = self.grid.settle(
            node.name, value, self.buffers, axis=axis, threshold=theta, start=float(v_init.abs().max()), steps=True
        )
        theta_whole, charge = (along(x, axis, len(shape)) / settled.scale for x in (theta, v_init * theta))
        if isinstance(self.grid, IntegerGrid):
            theta_whole, charge = theta_whole.round().clamp(min=1), charge.round()
        membrane = self._buffer(f"{node.name}.v", shape, "state", -math.inf, math.inf, compressed(charge))
        taken_back = None
        if op.signed:
            zero = torch.zeros((), dtype=torch.float64)
            taken_back = self._buffer(f"{node.name}.net", shape, "state", -math.inf, 0, zero)
        spikes = self._buffer(node.name, shape, "scratch", -op.max_spikes if op.signed else 0, op.max_spikes)
        settled = self._current(node.name, settled, shape)
        self.step.append(Sum(target=membrane, terms=settled.terms, constant=settled.constant, accumulate=True))
        self.step.append(
            Fire(
                site=node.name,
                target=spikes,
                membrane=membrane,
                taken_back=taken_back,
                threshold=compressed(theta_whole),
                max_spikes=op.max_spikes,
            )
        )
        gain = (theta_whole * settled.scale).expand(shape)
        return Value(shape=shape, terms=(Scaled(source=spikes, gain=gain),), constant=None)

    def _current(self, name: str, settled: Settled, shape: tuple[int, ...]) -> Settled:
        """What stays constant in a current is summed up once an image; the rest in every step."""
        still = tuple(t for t in settled.terms if self.buffers[t.source].life == "constant")
        if not still:
            return settled
        current = self._buffer(f"{name}.constant", shape, "constant", -math.inf, math.inf)
        self.encode.append(Sum(target=current, terms=still, constant=settled.constant, accumulate=False))
        moving = tuple(t for t in settled.terms if t not in still)
        whole = GainTerm(source=current, gain=torch.ones((1,) * len(shape), dtype=torch.float64))
        return replace(settled, terms=(whole, *moving), constant=None)

    def _add(self, node: Node, inputs: list[Value]) -> Value:
        shape = self.shapes[node.name]
        terms: list[Weighted | Scaled] = []
        constant: Tensor | None = None
        for number, value in enumerate(inputs):
            if value.shape != shape and any(isinstance(t, Weighted) for t in value.terms):
                value = self._computed(f"{node.name}.{number}", value)
            terms.extend(value.terms)
            if value.constant is not None:
                constant = value.constant if constant is None else constant + value.constant
        return Value(shape=shape, terms=tuple(terms), constant=None if constant is None else constant.expand(shape))

    def _times(self, node: Node, value: Value, factor: Tensor, shift: Tensor | None, axis: int | None) -> Value:
        scaled = value.times(factor, axis) or self._computed(f"{node.name}.sum", value).times(factor, axis)
        assert scaled is not None
        return scaled.plus(None if shift is None or axis is None else along(shift, axis, len(value.shape)))

    def _move(self, node: Node, op: StatelessOp, value: Value) -> Value:
        source, constant = self._computed(f"{node.name}.in", value).unit
        target = self._like(node, [source.source])
        self._emit(Apply(target=target, op=op, sources=(source.source,)))
        gain = batched(op, source.gain)
        if isinstance(op, Pad):
            worth = spread(gain, 0)[1]  # zeros are worth what the rest of their channel is, or anything
            gain = torch.where(gain == 0, along(torch.where(worth == 0, worth.max(), worth), 0, gain.dim()), gain)
        constant = None if constant is None else batched(op, constant)
        return Value(shape=self.shapes[node.name], terms=(Scaled(source=target, gain=gain),), constant=constant)

    def _concat(self, node: Node, op: Concat, inputs: list[Value]) -> Value:
        parts = [self._computed(f"{node.name}.{number}", value).unit for number, value in enumerate(inputs)]
        names = [source.source for source, _ in parts]
        target = self._like(node, names)
        self._emit(Apply(target=target, op=op, sources=tuple(names)))
        gain = batched(op, *(source.gain for source, _ in parts))
        constant = None
        if any(part is not None for _, part in parts):
            constant = batched(op, *(torch.zeros_like(s.gain) if part is None else part for s, part in parts))
        return Value(shape=self.shapes[node.name], terms=(Scaled(source=target, gain=gain),), constant=constant)

    def _average(self, node: Node, op: StatelessOp, value: Value) -> Value:
        """The sum over each window, in whole numbers; the divisor goes into what a unit is worth."""
        across = isinstance(op, Mean) and 1 in op.axes
        term, constant = self._computed(f"{node.name}.in", value, varies=None if across else 0).unit
        ones = torch.ones(value.shape, dtype=torch.float64)
        share = batched(op, ones)  # valid elements / divisor
        inside = window_sum(op, ones.unsqueeze(0)).squeeze(0)
        divisor = (inside / share).round()
        common = float(math.lcm(*{int(d) for d in divisor.flatten().tolist()}))
        gain = compressed(common / divisor)
        buffer = self.buffers[term.source]
        most = float((inside * (common / divisor)).max())
        target = self._like(node, [term.source], most)
        self._emit(
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
            self._computed(f"{node.name}.{n}", value, varies=0, whole=True, real=not greatest).unit[0]
            for n, value in enumerate(inputs)
        ]
        target = self._like(node, [unit.source for unit in units])
        self._emit(Apply(target=target, op=op, sources=tuple(unit.source for unit in units)))
        return _of(target, self.shapes[node.name], spread(units[0].gain, 0)[1] if greatest else None)

    def _difference(self, node: Node, op: StatelessOp, value: Value) -> Value:
        term, _ = self._computed(f"{node.name}.in", value, varies=0, whole=True).unit
        source = self.buffers[term.source]
        zero = torch.zeros((), dtype=torch.float64)
        total = self._buffer(f"{node.name}.total", value.shape, "state", -math.inf, math.inf, zero)
        shape = self.shapes[node.name]
        before = self._buffer(f"{node.name}.before", shape, "state", -math.inf, math.inf, zero)
        target = self._buffer(node.name, shape, "scratch", source.low, source.high)
        self.step.append(Difference(target=target, op=op, source=term.source, total=total, before=before))
        if isinstance(self.grid, IntegerGrid):
            self.grid.proven(node.name, max(abs(source.low), abs(source.high)), steps=True)
        return _of(target, shape, spread(term.gain, 0)[1])

    def _call(self, node: Node, op: StatefulOp, inputs: list[Value]) -> Value:
        """An op that only floats can run, as it is."""
        values = [self._computed(f"{node.name}.{n}", value, whole=True, real=True) for n, value in enumerate(inputs)]
        names = tuple(value.unit[0].source for value in values)
        example = op.initial_state(*(torch.zeros(1, *value.shape) for value in values))
        state = []
        for name, tensor in zip(op.state_names(len(names)), example, strict=True):
            start = compressed(tensor[0].detach().double())
            state.append(
                self._buffer(f"{node.name}.{name}", tuple(tensor.shape[1:]), "state", -math.inf, math.inf, start)
            )
        shape = self.shapes[node.name]
        target = self._buffer(node.name, shape, "scratch", -math.inf, math.inf)
        counts = None
        if isinstance(op, Neuron):
            counts = self._buffer(f"{node.name}.count", shape, "scratch", -math.inf, math.inf)
        self.step.append(Call(target=target, op=op, sources=names, state=tuple(state), counts=counts))
        return _of(target, shape)

    def _output(self, value: Value) -> tuple[str, float]:
        settled = self.grid.settle("output", value, self.buffers, uniform=True, wide=True, steps=True)
        buffer = self._buffer("output", value.shape, "scratch", -settled.down, settled.up)
        self.step.append(Sum(target=buffer, terms=settled.terms, constant=settled.constant, accumulate=False))
        return buffer, float(settled.scale.max())

    # What several handlers need.

    def _shared(self, node: Node, value: Value) -> Value:
        """A sum over synapses that several nodes read is computed once."""
        if self.users[node.name] > 1 and any(isinstance(t, Weighted) for t in value.terms):
            return self._computed(node.name, value)
        return value

    def _computed(
        self,
        name: str,
        value: Value,
        *,
        varies: int | Literal["anywhere"] | None = "anywhere",
        whole: bool = False,
        real: bool = False,
    ) -> Value:
        """The value as a multiple of one buffer, its constant beside it.

        Args:
            varies: the axis along which what a unit is worth may vary; None for no axis.
            whole: the constant goes into the buffer, and no unit is negative.
            real: a unit is worth 1.
        """
        done = value.buffer
        if done is not None and _varies_along(done.gain, varies):
            inside = value.constant is None and bool((done.gain > 0).all())
            if (inside or not whole) and not (real and bool((done.gain != 1).any())):
                return value
        summed = value if whole else replace(value, constant=None)
        axis = varies if isinstance(varies, int) else None
        life = self._life(t.source for t in value.terms)
        settled = self.grid.settle(  # what is constant will be added up over all steps, in some membrane
            name, summed, self.buffers, axis=axis, uniform=varies is None, steps=life == "constant"
        )
        free = name if name not in self.buffers else f"{name}.sum"
        target = self._buffer(free, value.shape, life, -settled.down, settled.up)
        (self.encode if life == "constant" else self.step).append(
            Sum(target=target, terms=settled.terms, constant=settled.constant, accumulate=False)
        )
        unit = Scaled(source=target, gain=settled.scale.expand(value.shape))
        return Value(shape=value.shape, terms=(unit,), constant=None if whole else value.constant)

    def _like(self, node: Node, sources: list[str], factor: float = 1.0) -> str:
        """A buffer for a node that moves or adds values of ``sources``."""
        low = min(self.buffers[name].low for name in sources) * factor
        high = max(self.buffers[name].high for name in sources) * factor
        return self._buffer(node.name, self.shapes[node.name], self._life(sources), low, high)

    def _life(self, sources: Iterable[str]) -> Life:
        return "constant" if all(self.buffers[name].life == "constant" for name in sources) else "scratch"

    def _emit(self, instruction: Apply) -> None:
        constant = self.buffers[instruction.target].life == "constant"
        (self.encode if constant else self.step).append(instruction)

    def _buffer(
        self, name: str, shape: tuple[int, ...], life: Life, low: float, high: float, start: Tensor | None = None
    ) -> str:
        assert name not in self.buffers, name
        self.buffers[name] = Buffer(name=name, shape=shape, life=life, low=low, high=high, start=start)
        return name


def _of(name: str, shape: tuple[int, ...], gain: Tensor | None = None) -> Value:
    """A buffer, a unit of each channel worth ``gain``."""
    each = torch.ones((), dtype=torch.float64) if gain is None else along(gain, 0, len(shape))
    return Value(shape=shape, terms=(Scaled(source=name, gain=each.expand(shape)),), constant=None)


def _varies_along(gain: Tensor, axis: int | Literal["anywhere"] | None) -> bool:
    if axis == "anywhere":
        return True
    lowest, highest = spread(gain, axis) if axis is not None else (gain.min(), gain.max())
    return torch.allclose(lowest, highest, rtol=1e-12, atol=0.0)


def window_sum(op: StatelessOp, x: Tensor) -> Tensor:
    """The sum over each window of an average, in the order of nothing: whole numbers stay whole."""
    if not isinstance(op, AdaptiveAvgPool2d):
        return op.route(x)
    rows, columns = (
        [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]
        for size, out in zip(x.shape[2:], op.size, strict=True)
    )
    cells = [x[:, :, top:bottom, left:right].sum((2, 3)) for top, bottom in rows for left, right in columns]
    return torch.stack(cells, -1).view(*x.shape[:2], op.size[0], op.size[1])
