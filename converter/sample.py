"""What is looked at of a site: its activations and their exact maxima, and the currents that should become them.

Of a layer's values some are looked at, by position: which ones depends on the number and the size of the images, and on
an image's place among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from converter.statistics import SiteStatistics, cache_blocks
from seenn.core.ops import IntegratingNeuron
from seenn.distributed import world

CURRENT_IMAGES = 128  # whose currents are looked at, about: of as many groups, where images have groups
CURRENT_BLOCK = 32  # images in a row, of which all are looked at or none
_PER_CHANNEL = 1 << 14  # values, about
_IN_ALL = 1 << 26  # values of a site, currents of all steps counted: 256 MiB
_PER_IMAGE = 16  # positions at least
_SHIFT = 7919  # a prime, between the first positions of one image and the next


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

    def add(self, first: int, target: Tensor, current: Tensor) -> None:
        """Images from number ``first`` on, or none of them: every process says at least how its values look."""
        values = [_by_position(step, self._axis) for step in (target, *current)]
        most = min(_PER_CHANNEL, _IN_ALL // (len(values) * values[0].shape[1]))
        each = -(-most // self._images)
        self._rows.append(torch.stack([_rows(step, first, each) for step in values]))

    def sample(self) -> SiteSample:
        """Of all that was added."""
        target, *currents = torch.cat(self._rows, 1)
        return SiteSample(target, currents)


class Activations:
    """Makes statistics, from chunks of activations ``[b, ..., C, ...]`` that are added in order."""

    def __init__(self, images: int, axis: int, *, two_sided: bool) -> None:
        """For ``images`` in all processes; ``two_sided`` activations count by their size."""
        self._images, self._axis, self._two_sided = images, axis, two_sided
        self._halves: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._maxima: list[Tensor] = []

    def add(self, first: int, values: Tensor) -> None:
        """Images from number ``first`` on."""
        values = _by_position(values.abs() if self._two_sided else values, self._axis)
        channels = values.shape[1]
        if not self._maxima:
            self._maxima = [values.new_zeros(channels) for _ in self._halves]
        most = max(1, min(_PER_CHANNEL, _IN_ALL // channels))
        every = -(-self._images * min(_PER_IMAGE, values.shape[2]) // most)  # image
        each = -(-most // -(-self._images // every))
        middle = min(max(0, self._images // 2 - first), len(values))
        for half, part in enumerate((slice(0, middle), slice(middle, len(values)))):
            if len(values[part]):
                self._maxima[half] = self._maxima[half].maximum(values[part].amax((0, 2)))
                start = part.start + -(first + part.start) % every
                self._halves[half].append(_rows(values[start : part.stop : every], first + start, each, every))

    def statistics(self, *, per_channel: bool = True) -> SiteStatistics:
        """Of all that was added, in all processes, and of the halves of the images."""
        empty = self._maxima[0].new_empty(0, len(self._maxima[0]))
        sizes, maxima = [torch.cat([empty, *rows]) for rows in self._halves], torch.stack(self._maxima)
        if not per_channel:
            sizes, maxima = [rows.reshape(-1, 1) for rows in sizes], maxima.amax(1, keepdim=True)
        first, second = map(SiteStatistics.of, sizes, maxima)
        return replace(SiteStatistics.of(torch.cat(sizes), maxima.amax(0)), halves=(first, second))


def _by_position(values: Tensor, axis: int) -> Tensor:
    """``[b, ..., C, ...]`` as ``[b, C, positions]``; a linear layer's ``[b, C]`` has one position."""
    return values.movedim(axis, 1).unsqueeze(-1).flatten(2)


def _rows(values: Tensor, first: int, each: int, every: int = 1) -> Tensor:
    """``[b, C, positions]`` as ``[n, C]``: about ``each`` positions of an image, evenly spaced, or all.

    The images have the numbers ``first``, ``first + every`` and so on: each begins elsewhere, so that together they
    show all positions, and which those of an image are follows from its number.
    """
    images, channels, positions = values.shape
    if each < positions:
        begin = (torch.arange(images) * every + first)[:, None] * _SHIFT
        index = (begin + torch.arange(each) * positions // each) % positions
        values = values.gather(2, index.to(values.device)[:, None].expand(images, channels, each))
    return values.transpose(1, 2).flatten(0, 1)


def channel_mean(values: Tensor) -> Tensor:
    """Per channel over the rows of all processes, summed in float64 so that the order of the images does not show."""
    return world().cat(values).mean(0, dtype=torch.float64).to(values.dtype)
