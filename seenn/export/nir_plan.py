"""A network as nodes of NIR: thresholds folded into the weights, so that every neuron of a reader fires at 1.

Each op lowers itself, in the words of ``seenn.core.ops.Lowering``. A value is a sum of terms that are not written yet,
so that a neuron's threshold can divide the weights before it, and what its spikes are worth multiply those after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import INPUT
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    Conv2d,
    Flatten,
    FlooredNeuron,
    IFNeuron,
    IntegratingNeuron,
    LIFNeuron,
    Linear,
    Mean,
    Neuron,
    StatefulOp,
    StatelessOp,
    Synapse,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """``weight · Σ sources + bias`` of a synapse, or without one ``gain · Σ sources``, ``[C]`` along the first axis."""

    sources: tuple[str, ...]
    gain: Tensor
    op: Synapse | None = None
    bias: Tensor | None = None
    size: tuple[int, ...] = ()  # of the images that a convolution reads

    def times(self, factor: Tensor) -> Term:
        """All of it times a number for each channel."""
        return replace(self, gain=self.gain * factor, bias=None if self.bias is None else self.bias * factor)


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A sum of terms."""

    shape: tuple[int, ...]
    terms: tuple[Term, ...]


def _by_channel(values: Tensor, axis: int | None, shape: tuple[int, ...]) -> Tensor | None:
    """One number, or ``[C]`` for the channels of images of this shape; None for any other numbers."""
    values = values.detach().double()
    if values.numel() == 1:
        return values.reshape(())
    if axis is None and values.dim() == len(shape) and values.shape[0] == values.numel():
        axis, values = 1, values.flatten()
    return values if axis == 1 and values.shape == shape[:1] else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """A neuron as NIR has it, at a threshold of 1.

    Attributes:
        node: its name there.
        shape: of its membranes there: what a linear layer gives is an image of one pixel.
        charge: of the membrane before the first step, ``[C]``, in thresholds.
        decay: share of the membrane that a step keeps.
        neuron: the op.
    """

    node: str
    shape: tuple[int, ...]
    charge: Tensor
    decay: float
    neuron: Neuron


class Plan:
    """The nodes and edges of a NIR graph.

    Attributes:
        nodes: by name: the kind, as ``nir`` calls it, and its fields.
        edges: from, to.
        sites: neurons by their names in the network.
        problems: what NIR cannot have, by node.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.nodes: dict[str, tuple[str, dict[str, Any]]] = {}
        self.edges: list[tuple[str, str]] = []
        self.sites: dict[str, Site] = {}
        self.problems: list[str] = []
        self.constant = False  # what the ops ask of a lowering: nothing is computed once an image
        self._network, self._name, self._shape = network, INPUT, network.input_shape
        values = {INPUT: self._unit("input", network.input_shape)}
        self._put("input", "Input", {"shape": network.input_shape}, ())
        for node in network.graph:
            self._name, self._shape = node.name, network.shapes[node.name]
            values[node.name] = node.op.lower(self, [values[name] for name in node.inputs])
        self._name = "output"
        last = values[network.graph.output]
        self._put("output", "Output", {"shape": last.shape}, self._written(last, torch.ones(())))

    def synapse(self, op: Synapse, x: Value) -> Value:
        if isinstance(op, Linear) and len(x.shape) == 3 and op.weight.shape[1] == math.prod(x.shape):
            own = (
                op.weight.detach().double().view(-1, *x.shape)
            )  # readers flatten batches: over the whole image instead
            return self._layer(Conv2d(own), op.bias, x, (len(own), 1, 1))
        if isinstance(op, Conv2d) or (isinstance(op, Linear) and len(x.shape) == 1):
            return self._layer(op, op.bias, x, self._shape)
        return self._refuse(f"NIR has no {op.kind} here: use a convolution, or a linear layer of a flat input", x)

    def _layer(self, op: Conv2d | Linear, bias: Tensor | None, x: Value, shape: tuple[int, ...]) -> Value:
        sources, worth = self._uniform(x)
        groups = op.groups if isinstance(op, Conv2d) else 1
        own = op.weight.detach().double()
        each = worth.expand(x.shape[0]).view(groups, 1, -1).expand(groups, len(own) // groups, -1)
        weight = own * each.reshape(len(own), -1, *[1] * (own.dim() - 2))
        shift = torch.zeros(len(own), dtype=torch.float64) if bias is None else bias.detach().double()
        ones = torch.ones(len(own), dtype=torch.float64)
        term = Term(sources=sources, gain=ones, op=_with_weight(op, weight), bias=shift, size=x.shape[1:])
        return Value(shape=shape, terms=(term,))

    def fire(self, neuron: IntegratingNeuron, x: Value, *, slope: Tensor | None = None) -> Value:
        if not isinstance(neuron, IFNeuron):
            return self._refuse("a neuron of two slopes: use ReLU", x)
        if neuron.bias is not None:
            x = self._shifted(x, neuron.bias.detach().double())
        return self._neuron(neuron, x, "IF", 1.0)

    def call(self, op: StatefulOp, inputs: Sequence[Value], why: str, *, cumulates: StatelessOp | None = None) -> Value:
        if isinstance(op, LIFNeuron):
            return self._neuron(op, inputs[0], "LIF", op.decay)
        if isinstance(op, FlooredNeuron):
            return self._neuron(op, inputs[0], "IF", 1.0)
        return self._refuse(f"NIR has no {op.kind}: {why}; use --to onnx", inputs[0])

    def add(self, inputs: Sequence[Value]) -> Value:
        return Value(shape=inputs[0].shape, terms=tuple(term for value in inputs for term in value.terms))

    def times(self, x: Value, factor: Tensor, shift: Tensor | None = None, axis: int | None = None) -> Value:
        found = [None if values is None else _by_channel(values, axis, x.shape) for values in (factor, shift)]
        if found[0] is None or (shift is not None and found[1] is None) or x.shape != self._shape:
            return self._refuse("factors or summands that are no number for each channel: use --to onnx", x)
        scaled = Value(shape=x.shape, terms=tuple(term.times(found[0]) for term in x.terms))
        return scaled if found[1] is None else self._shifted(scaled, found[1])

    def move(self, op: StatelessOp, x: Value) -> Value:
        if isinstance(op, Flatten) and op.start == 1 and len(self._shape) == 1:
            return x  # what follows reads images as well
        return self._refuse(f"NIR has no {op.kind}: flatten the whole image, or use --to onnx", x)

    def average(self, op: StatelessOp, x: Value, *, across_channels: bool = False) -> Value:
        window = _window(op, x.shape)
        if window is None:
            return self._refuse(f"{op.kind} with padding or windows of several sizes: pool whole windows", x)
        kernel, stride = window
        sources, worth = self._uniform(x)
        fields = {"kernel_size": kernel, "stride": stride, "padding": (0, 0)}
        name = self._put(self._name, "SumPool2d", fields, sources)
        gain = worth.expand(x.shape[0]) / (kernel[0] * kernel[1])
        rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:], kernel, stride, strict=True))
        return Value(shape=(x.shape[0], rows, columns), terms=(Term(sources=(name,), gain=gain),))

    def concat(self, op: StatelessOp, inputs: Sequence[Value]) -> Value:
        return self._refuse("NIR has no concatenation: use a network that adds, or --to onnx", inputs[0])

    def select(self, op: StatelessOp, x: Value) -> Value:
        return self._refuse("NIR has no max pooling: use average pooling and train again, or --to onnx", x)

    def difference(self, op: StatelessOp, x: Value) -> Value:
        return self.select(op, x)

    def function(self, op: StatelessOp, inputs: Sequence[Value], why: str) -> Value:
        return self._refuse(f"NIR has no {op.kind}: use --to onnx", inputs[0])

    def _neuron(self, neuron: Neuron, x: Value, kind: str, decay: float) -> Value:
        channels = x.shape[0]
        theta = neuron.v_threshold.detach().double().expand(channels)
        sources = self._written(x, 1 / theta)
        name = self._put(self._name, kind, {"shape": x.shape}, sources)
        charge = neuron.v_init.detach().double().expand(channels)
        self.sites[self._name] = Site(node=name, shape=x.shape, charge=charge, decay=decay, neuron=neuron)
        return Value(shape=x.shape, terms=(Term(sources=(name,), gain=theta),))

    def _shifted(self, x: Value, shift: Tensor) -> Value:
        """A constant for each channel goes into the first bias that there is."""
        for index, term in enumerate(x.terms):
            if term.bias is not None:
                added = replace(term, bias=term.bias + shift)
                return replace(x, terms=(*x.terms[:index], added, *x.terms[index + 1 :]))
        return self._refuse("a constant where no layer has a bias: put a convolution before it", x)

    def _uniform(self, x: Value) -> tuple[tuple[str, ...], Tensor]:
        """Nodes whose sum is the value, but for a number for each channel."""
        if len(x.terms) == 1 and x.terms[0].op is None:
            return x.terms[0].sources, x.terms[0].gain
        return self._written(x, torch.ones(())), torch.ones((), dtype=torch.float64)

    def _written(self, x: Value, factor: Tensor) -> tuple[str, ...]:
        """Nodes whose sum is the value times ``factor``."""
        found: list[str] = []
        for index, term in enumerate(scaled.times(factor) for scaled in x.terms):
            if term.op is None and bool((term.gain == 1).all()):
                found.extend(term.sources)
                continue
            op, gain = term.op or _diagonal(x.shape), term.gain.expand(x.shape[0])
            weight = op.weight.detach().double() * gain.view(-1, *[1] * (op.weight.dim() - 1))
            bias = torch.zeros(len(weight)) if term.bias is None else term.bias
            fields: dict[str, Any] = {"weight": weight.float(), "bias": bias.float()}
            if isinstance(op, Conv2d):
                fields |= {"stride": op.stride, "padding": op.padding, "dilation": op.dilation, "groups": op.groups,
                           "input_shape": term.size or x.shape[1:]}  # fmt: skip
            kind = "Conv2d" if isinstance(op, Conv2d) else "Affine"
            found.append(self._put(f"{self._name}_{kind.lower()}{index or ''}", kind, fields, term.sources))
        return tuple(found)

    def _put(self, name: str, kind: str, fields: dict[str, Any], sources: Sequence[str]) -> str:
        free = "".join(c if c.isalnum() else "_" for c in name)
        while free in self.nodes:
            free += "_"
        self.nodes[free] = (kind, fields)
        self.edges.extend((source, free) for source in sources)
        return free

    def _unit(self, name: str, shape: tuple[int, ...]) -> Value:
        one = torch.ones((), dtype=torch.float64)
        return Value(shape=shape, terms=(Term(sources=(name,), gain=one),))

    def _refuse(self, why: str, x: Value) -> Value:
        self.problems.append(f"{self._name}: {why}")
        return replace(x, shape=self._shape, terms=self._unit("input", self._shape).terms)


def _with_weight(op: Conv2d | Linear, weight: Tensor) -> Synapse:
    """The same connectivity with other weights and no bias; not in groups, of which readers know nothing."""
    if isinstance(op, Linear):
        return Linear(weight)
    dense = torch.zeros(len(weight), op.groups, *weight.shape[1:], dtype=weight.dtype)
    each = len(weight) // op.groups
    for group in range(op.groups):
        dense[group * each : (group + 1) * each, group] = weight[group * each : (group + 1) * each]
    return Conv2d(dense.flatten(1, 2), stride=op.stride, padding=op.padding, dilation=op.dilation)


def _diagonal(shape: Sequence[int]) -> Synapse:
    """The identity as a layer."""
    identity = torch.eye(shape[0], dtype=torch.float64)
    return Linear(identity) if len(shape) == 1 else Conv2d(identity[:, :, None, None])


def _window(op: StatelessOp, shape: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    if isinstance(op, AvgPool2d) and op.padding == (0, 0) and not op.ceil_mode:
        return op.kernel, op.stride
    if isinstance(op, AdaptiveAvgPool2d) and not any(n % out for n, out in zip(shape[1:], op.size, strict=True)):
        height, width = (n // out for n, out in zip(shape[1:], op.size, strict=True))
        return (height, width), (height, width)
    if isinstance(op, Mean) and op.axes == (2, 3) and len(shape) == 3:
        return (shape[1], shape[2]), (shape[1], shape[2])
    return None
