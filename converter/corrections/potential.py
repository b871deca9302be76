"""Charge at the start that cancels each channel's mean error."""

from __future__ import annotations

from converter.corrections import CORRECTIONS, Correction
from converter.sample import SiteSample, channel_mean
from seenn.core.ops import IntegratingNeuron


class Potential(Correction):
    """Charge that the membrane holds from the start (the idea of Li et al.'s v0 calibration, here per channel).

    At step T its total is that of ``bias``; if the network runs on, it fades as 1/T.
    """

    measured = True

    def correct(self, neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
        for _ in range(rounds):
            charge = len(sample.currents) * channel_mean(sample.error(neuron))
            neuron = neuron.corrected(neuron.v_init + charge / neuron.v_threshold, neuron.bias)
        return neuron


CORRECTIONS.register("potential")(Potential())
