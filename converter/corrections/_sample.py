"""The currents of a site and what they should become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.statistics import by_position, cache_blocks, position_stride
from seenn.core.ops import IntegratingNeuron
from seenn.distributed import world

_SAMPLES_PER_CHANNEL = 1 << 15


@dataclass(frozen=True)
class SiteSample:
    """Currents and the activations they should become, at every k-th position of every calibration image.

    Attributes:
        currents: one ``[n, C]`` a timestep.
        target: the ANN's activations, ``[n, C]``.
    """

    currents: Sequence[Tensor]
    target: Tensor

    @staticmethod
    def of(
        current: Sequence[Tensor], analog: Sequence[Tensor], timesteps: int, *, constant: bool, axis: int = 1
    ) -> SiteSample:
        """From chunks of images: activations ``[b, C, ...]`` and currents ``[T, b, C, ...]`` (no T if constant), with
        their channels along ``axis`` of an activation.

        All positions of all images while a channel has at most 32,768; which ones of more depends on the
        image's size and the number of images only, never on their order.
        """
        images = int(world().sum_(torch.tensor(sum(map(len, analog)))))
        positions = analog[0][0].select(axis - 1, 0).numel()
        stride = position_stride(images, positions, _SAMPLES_PER_CHANNEL)

        def rows(value: Tensor) -> Tensor:
            return by_position(value.movedim(axis, 1))[:, :, ::stride].transpose(1, 2).flatten(0, 1)

        target = torch.cat([rows(chunk) for chunk in analog])
        if constant:
            return SiteSample([torch.cat([rows(chunk) for chunk in current])] * timesteps, target)
        return SiteSample([torch.cat([rows(chunk[t]) for chunk in current]) for t in range(timesteps)], target)

    def error(self, neuron: IntegratingNeuron) -> Tensor:
        """Activation minus the neuron's mean output, ``[n, C]``."""
        total = torch.zeros_like(self.target)
        for rows in cache_blocks(total):
            block = total[rows]
            state = neuron.initial_state(block)
            for current in self.currents:
                count, state = neuron.fire(current[rows], state, in_place=True)
                block += count
        return self.target - neuron.emit(total) / len(self.currents)


def channel_mean(values: Tensor) -> Tensor:
    """Per channel over the rows of all processes, summed in float64 so that the order of the images does not show."""
    return world().cat(values).mean(0, dtype=torch.float64).to(values.dtype)
