"""A constant current that cancels each channel's mean error."""

from __future__ import annotations

from converter.corrections import CORRECTIONS, Correction
from converter.sample import SiteSample, channel_mean
from seenn.core.ops import IntegratingNeuron


class Bias(Correction):
    """A constant current in every step (Li et al. 2021, light calibration); it does not fade if the network runs on."""

    measured = True

    def correct(self, neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
        for _ in range(rounds):
            error = channel_mean(sample.error(neuron))
            neuron = neuron.corrected(neuron.v_init, error if neuron.bias is None else neuron.bias + error)
        return neuron


CORRECTIONS.register("bias")(Bias())
