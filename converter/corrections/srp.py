"""Residual membrane potentials: neurons that a pre-pass over the same image shows to end below zero stay silent."""

from __future__ import annotations

from converter.corrections import CORRECTIONS
from converter.corrections.cos import OffsetSpikes


class ResidualPotentials(OffsetSpikes):
    """SRP (Hao et al. 2023, AAAI), for binary neurons; see ``PrepassIFNeuron``."""

    rule = "srp"


CORRECTIONS.register("srp")(ResidualPotentials())
