"""What is looked at of a site: its activations and their exact maxima, and the currents that should become them.

Of a layer's values some are looked at, by position: which ones depends on the number and the size of the images only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from converter.statistics import SiteStatistics, cache_blocks
from seenn.core.ops import IntegratingNeuron
from seenn.distributed import world

CURRENT_IMAGES = 128  # whose currents are looked at, about
_PER_CHANNEL = 1 << 14  # values, about
_IN_ALL = 1 << 26  # values of a site, currents of all steps counted: 256 MiB
_PER_IMAGE = 16  # positions at least: one alone might be a corner


@dataclass(frozen=True)
class SiteSample:
    """Currents of a site, and the activations that they should become.

    Attributes:
        target: the ANN's activations, ``[n, C]``.
        currents: what the spiking network delivers, ``[n, C]`` for each timestep.
    """

    target: Tensor
    currents: Sequence[Tensor]

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


class Currents:
    """Makes a sample, from chunks of activations ``[b, ..., C, ...]`` and currents ``[T, b, ..., C, ...]``."""

    def __init__(self, images: int, axis: int) -> None:
        """``images``: how many there will be, in all processes; ``axis``: that of the activations' channels."""
        self._images, self._axis = images, axis
        self._rows: list[Tensor] = []  # [1 + T, n, C]

    def add(self, target: Tensor, current: Tensor) -> None:
        """The next images, or none of them: every process says at least how its values look."""
        values = torch.cat([target[None], current])
        channels = values.shape[1 + self._axis]
        positions = math.prod(target.shape[1:]) // channels
        most = min(_PER_CHANNEL, _IN_ALL // (len(values) * channels))
        stride = position_stride(self._images, positions, max(1, most))
        self._rows.append(torch.stack([_rows(step, self._axis, stride) for step in values]))

    def sample(self) -> SiteSample:
        """Of all that was added."""
        target, *currents = torch.cat(self._rows, 1)
        return SiteSample(target, currents)


class Activations:
    """Makes statistics, from chunks of activations ``[b, ..., C, ...]`` that are added in order."""

    def __init__(self, images: int, first: int, axis: int, *, two_sided: bool) -> None:
        """For ``images`` in all, of which the process's own begin at ``first``; ``two_sided`` ones count by size."""
        self._images, self._next, self._axis, self._two_sided = images, first, axis, two_sided
        self._halves: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._maxima: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """The next images."""
        values = (values.abs() if self._two_sided else values).movedim(self._axis, 1)
        start, middle = self._next, min(max(0, self._images // 2 - self._next), len(values))
        self._next += len(values)
        channels, positions = values.shape[1], values[0, 0].numel()
        if not self._maxima:
            self._maxima = [values.new_zeros(channels) for _ in self._halves]
        most = max(1, min(_PER_CHANNEL, _IN_ALL // channels))
        every = -(-self._images * min(_PER_IMAGE, positions) // most)  # image
        stride = position_stride(-(-self._images // every), positions, most)
        for half, part in enumerate((slice(0, middle), slice(middle, len(values)))):
            if len(values[part]):
                largest = values[part].unsqueeze(-1).flatten(2).amax((0, 2))
                self._maxima[half] = self._maxima[half].maximum(largest)
                chosen = values[part][-(start + part.start) % every :: every]
                self._halves[half].append(_rows(chosen, 1, stride))

    def statistics(self, *, per_channel: bool = True) -> SiteStatistics:
        """Of all that was added, in all processes, and of the halves of the images."""
        empty = self._maxima[0].new_empty(0, len(self._maxima[0]))
        sizes, maxima = [torch.cat([empty, *rows]) for rows in self._halves], torch.stack(self._maxima)
        if not per_channel:
            sizes, maxima = [rows.reshape(-1, 1) for rows in sizes], maxima.amax(1, keepdim=True)
        first, second = map(SiteStatistics.of, sizes, maxima)
        return replace(SiteStatistics.of(torch.cat(sizes), maxima.amax(0)), halves=(first, second))


def position_stride(images: int, positions: int, most: int) -> int:
    """Take every so-manieth position of each image to keep roughly ``most`` values a channel; 1 takes all.

    It has no divisor in common with the number of positions: a stride that divides the width would see some
    columns only, perhaps the border alone.
    """
    stride = min(max(1, images * positions // most), max(1, positions // _PER_IMAGE))
    while math.gcd(stride, positions) > 1:
        stride -= 1
    return stride


def _rows(values: Tensor, axis: int, stride: int) -> Tensor:
    """``[b, ..., C, ...]`` as ``[n, C]``, at every so-manieth position."""
    return values.movedim(axis, 1).unsqueeze(-1).flatten(2)[:, :, stride // 2 :: stride].transpose(1, 2).flatten(0, 1)


def channel_mean(values: Tensor) -> Tensor:
    """Per channel over the rows of all processes, summed in float64 so that the order of the images does not show."""
    return world().cat(values).mean(0, dtype=torch.float64).to(values.dtype)
