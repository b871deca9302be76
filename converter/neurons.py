"""Which neuron an activation becomes."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from converter.config import NeuronSpec
from seenn.core.graph import OpGraph
from seenn.core.ops import QCFS, Activation, IFNeuron, IntegratingNeuron, LeakyReLU, ReLU, TwoSidedIFNeuron
from seenn.errors import UnsupportedError


def make_neuron(activation: Activation, v_threshold: Tensor, spec: NeuronSpec) -> IntegratingNeuron:
    """The neuron of this kind that stands for ``activation``, for values with their channels along axis 1."""
    if isinstance(activation, LeakyReLU):
        return TwoSidedIFNeuron(v_threshold, slope=activation.slope, max_spikes=spec.max_spikes)
    kind = partial(IFNeuron, v_threshold, signed=spec.signed, max_spikes=spec.max_spikes)
    if isinstance(activation, QCFS):
        return kind(levels=activation.levels)
    assert isinstance(activation, ReLU)
    return kind(ceiling=activation.ceiling)


def along(neuron: IntegratingNeuron, axis: int) -> IntegratingNeuron:
    """The same neuron for values with their channels along ``axis``."""
    arguments: dict[str, Any] = {**neuron.tensors(), **neuron.config(), "axis": axis}
    return neuron if neuron.axis == axis else type(neuron)(**arguments)


def site_axis(activation: Activation, axis: int) -> int:
    """The channel axis of a site whose values have theirs along ``axis``: an activation with weights brings its own."""
    if isinstance(activation, QCFS):
        return activation.axis
    return 1 if isinstance(activation, LeakyReLU) and activation.slope.dim() else axis


def check_signs(graph: OpGraph, spec: NeuronSpec) -> None:
    """Raises UnsupportedError, naming all sites, where spikes of one sign are to carry values of both."""
    sites = [node.name for node in graph if isinstance(node.op, Activation) and node.op.two_sided]
    if sites and not spec.signed:
        raise UnsupportedError(
            f"{len(sites)} activations have values below zero ({', '.join(sites[:8])}{', …' if sites[8:] else ''}), "
            f"which the spikes of {spec.kind} neurons cannot carry: use signed neurons (--neuron signed)"
        )
