"""Calibrated offset spikes: every neuron starts from what a pre-pass over the same image showed."""

from __future__ import annotations

from typing import Any, ClassVar

from converter.corrections import CORRECTIONS, Correction
from seenn.core.ops import IFNeuron, IntegratingNeuron, PrepassIFNeuron


class OffsetSpikes(Correction):
    """COS (Hao et al. 2023, ICLR), for binary neurons; see ``PrepassIFNeuron``. Nothing is measured in calibration."""

    initial_steps = 8  # as published
    neuron = "if"
    rule: ClassVar[str] = "cos"

    def with_initial_steps(self, neuron: IntegratingNeuron, steps: int) -> IntegratingNeuron:
        if not isinstance(neuron, IFNeuron):  # an encoder, which takes back what it fires too early
            return neuron
        arguments: dict[str, Any] = {**neuron.tensors(), **neuron.config()}
        del arguments["signed"], arguments["max_spikes"]
        return PrepassIFNeuron(**arguments, rule=self.rule, prepass=steps)


CORRECTIONS.register("cos")(OffsetSpikes())
