"""The customary energy estimate, with its assumptions in the open.

Operation energies are those of 45 nm CMOS at 32-bit floating point (Horowitz, ISSCC 2014): 4.6 pJ per
multiply-accumulate, 0.9 pJ per accumulate. What stays analog in a hybrid (products of two activations, synapses
that analog values reach) costs its multiply-accumulates in every step, not once. Memory traffic, membrane updates
and idle power are left out, as they are in the literature; real gains have been found well below such estimates
(arXiv:2309.03388).

An ANN need not compute in floating point either: beside the estimate stands the ANN quantised to as many levels as the
neurons tell apart (as in arXiv:2409.08290), and the spiking network in integers too. By the same source an 8-bit
multiplication takes 0.2 pJ, a 32-bit one 3.1 pJ, a 32-bit addition 0.1 pJ; multipliers grow with the square of their
width, which both figures bear out, so a multiply-accumulate of b-bit integers is taken to cost
``0.2 pJ · (b/8)² + 0.1 pJ``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Amount = TypeVar("Amount", float, Tensor)

MAC_PJ = 4.6
ACCUMULATE_PJ = 0.9
INTEGER_MULTIPLY_PJ = 0.2  # of 8 bits
INTEGER_ACCUMULATE_PJ = 0.1  # of 32 bits
PIXEL_BITS = 8


@dataclass(frozen=True, kw_only=True)
class DenseCost:
    """Multiply-accumulates for one image.

    Attributes:
        ann: of the analog twin.
        once: of the spiking network's first layers, whose input is the image, and of all initial steps: paid once.
        per_step: of synapses that receive analog values, and of products of two activations, in every step; 0 in
            a fully spiking network. Functions of one value, normalisation and max pooling have no
            multiply-accumulates by the usual count, in the ANN neither.
        spiking: of the ANN, those that spikes feed.
    """

    ann: int
    once: int
    per_step: int
    spiking: int = 0

    @property
    def spiking_mac_share(self) -> float:
        """The part of the multiply-accumulates of every step whose operand is a spike count, 0 to 1.

        The first layers, which see the image itself and are computed once an image, are counted apart (``once``).
        """
        return self.spiking / max(1, self.spiking + self.per_step)


def ann_energy_pj(cost: DenseCost) -> float:
    """``4.6 pJ · MACs`` of the analog network, per image."""
    return MAC_PJ * cost.ann


def snn_energy_pj(cost: DenseCost, synops: Amount, timesteps: Amount) -> Amount:
    """``4.6 pJ · (MACs once + MACs per step · t) + 0.9 pJ · SynOps``, per image.

    Args:
        cost: multiply-accumulates that spikes do not replace.
        synops: synaptic operations up to the exit, of one image or their mean; or a tensor of them.
        timesteps: steps run, likewise.
    """
    return MAC_PJ * (cost.once + cost.per_step * timesteps) + ACCUMULATE_PJ * synops


@dataclass(frozen=True, kw_only=True)
class QuantisedANN:
    """The ANN in integers, where every value has as many levels as the finest neurons tell apart in T steps.

    Attributes:
        levels: of an activation.
        bits: that hold them.
        energy_pj: per image.
    """

    levels: int
    bits: int
    energy_pj: float

    @classmethod
    def of(cls, cost: DenseCost, levels: int) -> QuantisedANN:
        """The ANN of a spiking network whose neurons tell so many levels apart."""
        bits = max(1, math.ceil(math.log2(levels)))
        return cls(levels=levels, bits=bits, energy_pj=integer_mac_pj(bits) * cost.ann)

    def snn_energy_pj(self, cost: DenseCost, synops: float, timesteps: float) -> float:
        """``snn_energy_pj`` in integers: first layers on 8-bit pixels, analog values of ``bits``, 32-bit additions."""
        once, per_step = integer_mac_pj(PIXEL_BITS) * cost.once, integer_mac_pj(self.bits) * cost.per_step
        return once + per_step * timesteps + INTEGER_ACCUMULATE_PJ * synops


def integer_mac_pj(bits: int) -> float:
    """``0.2 pJ · (bits/8)² + 0.1 pJ``: a multiply-accumulate of integers of so many bits."""
    return INTEGER_MULTIPLY_PJ * (bits / 8) ** 2 + INTEGER_ACCUMULATE_PJ
