"""COS and SRP: neurons that start from what a pre-pass of the same image showed."""

from __future__ import annotations

from typing import Any

from seenn.core.ops import IntegratingNeuron, PrepassIFNeuron
from seenn.errors import ConversionError


def with_prepass(neuron: IntegratingNeuron, *, rule: str, steps: int) -> PrepassIFNeuron:
    """The same neuron with a pre-pass.

    Raises:
        ConversionError: it is not a binary one for a ReLU or a QCFS activation.
    """
    arguments: dict[str, Any] = {**neuron.tensors(), **neuron.config()}
    if arguments.pop("signed", True) or arguments.pop("max_spikes") != 1:
        raise ConversionError(f"{rule} is for binary neurons (--neuron if), got {neuron.title}")
    return PrepassIFNeuron(**arguments, rule=rule, prepass=steps)
