"""Corrections by name, one file each: what is done to a site's neuron so that its mean output is the ANN's activation.

A neuron that runs on the currents that the spiking network really delivers is off for two reasons: rounding
and clipping, and currents that arrive unevenly over time. The mean of that error per channel, over the
calibration images, can be cancelled (``bias``, ``potential``, ``joint``); or each neuron of each image starts from
what initial steps of the same image show (``cos``, ``srp``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from seenn.registry import Registry

if TYPE_CHECKING:
    from converter.sample import SiteSample
    from seenn.core.ops import IntegratingNeuron


class Correction:
    """Derive, override what the correction does, and register an instance."""

    measured: ClassVar[bool] = False  # needs the currents that the spiking network delivers: see ``correct``
    initial_steps: ClassVar[int] = 0  # by default, for corrections whose neurons take some; 0: they take none
    neuron: ClassVar[str | None] = None  # the only kind of neuron that it is for; None: any

    def correct(self, neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
        """The neuron with what cancels its error on ``sample``, measured and applied ``rounds`` times."""
        return neuron

    def with_initial_steps(self, neuron: IntegratingNeuron, steps: int) -> IntegratingNeuron:
        """The neuron that starts from what so many initial steps show."""
        return neuron


CORRECTIONS: Registry[Correction] = Registry("correction", "converter.corrections")
