"""Which neuron an activation becomes."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from converter.config import NeuronSpec
from seenn.errors import UnsupportedError
from seenn.graph import OpGraph
from seenn.ops import QCFS, Activation, IFNeuron, IntegratingNeuron, LeakyReLU, ReLU, TwoSidedIFNeuron


def make_neuron(activation: Activation, v_threshold: Tensor, spec: NeuronSpec) -> IntegratingNeuron:
    """The neuron of this kind that stands for ``activation``."""
    if isinstance(activation, LeakyReLU):
        return TwoSidedIFNeuron(v_threshold, slope=activation.slope, max_spikes=spec.max_spikes)
    kind = partial(IFNeuron, v_threshold, signed=spec.signed, max_spikes=spec.max_spikes)
    if isinstance(activation, QCFS):
        return kind(levels=activation.levels, axis=activation.axis)
    assert isinstance(activation, ReLU)
    return kind(ceiling=activation.ceiling)


def check_signs(graph: OpGraph, spec: NeuronSpec) -> None:
    """Raises UnsupportedError, naming all sites, where spikes of one sign are to carry values of both."""
    sites = [node.name for node in graph if isinstance(node.op, Activation) and node.op.two_sided]
    if sites and not spec.signed:
        raise UnsupportedError(
            f"{len(sites)} activations have values below zero ({', '.join(sites[:8])}{', …' if sites[8:] else ''}), "
            f"which the spikes of {spec.kind} neurons cannot carry: use signed neurons (--neuron signed)"
        )
