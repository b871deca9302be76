"""What is looked at of a site: its activations, the currents that should become them, and its exact maxima."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from converter.statistics import SiteStatistics, cache_blocks
from seenn.core.ops import IntegratingNeuron
from seenn.distributed import world

_PER_CHANNEL = 1 << 15  # values of a channel, about
_PER_IMAGE = 16  # positions at least: one alone might be a corner
_IN_ALL = 1 << 27  # values of a site, currents of all steps counted: 512 MiB


class SiteSample:
    """Activations and currents of a site at every k-th position, from chunks of images that are added in order.

    All positions of all images while a channel has at most 32,768, or fewer where its currents would not fit into
    512 MiB. Which ones of more depends on the number and the size of the images only.

    Attributes:
        target: the ANN's activations, ``[n, C]``.
        currents: what the spiking network delivers, ``[T, n, C]``.
    """

    def __init__(
        self, example: Tensor, *, images: int, mine: slice, timesteps: int, constant: bool, axis: int, two_sided: bool
    ) -> None:
        """For activations like ``example`` ``[b, ..., C, ...]``, with their channels along ``axis``.

        Args:
            images: all of them.
            mine: those that this process adds.
            timesteps: T; 0 where no currents are given.
            constant: whether the currents are the same in every step, and given without T.
            two_sided: whether ranges are of values of both signs.
        """
        channels, positions = example.shape[axis], example[0].select(axis - 1, 0).numel()
        stored = 1 if constant and timesteps else timesteps
        most = max(1, min(_PER_CHANNEL, _IN_ALL // ((1 + stored) * channels)))
        self._axis, self._two_sided, self._half = axis, two_sided, images // 2
        self._every = -(-images * min(_PER_IMAGE, positions) // most)  # image
        self._stride = position_stride(-(-images // self._every), positions, most)
        chosen = [number for number in range(mine.start, mine.stop) if number % self._every == 0]
        each = -(-positions // self._stride)
        self._first = each * sum(number < self._half for number in chosen)  # rows of the first half of the images
        self._next, self._filled = mine.start, 0
        self._maxima = example.new_zeros(2, channels)
        self.target = example.new_empty(each * len(chosen), channels)
        self._currents = example.new_empty(stored, *self.target.shape)
        self.currents = self._currents.expand(timesteps, *self.target.shape)

    def add(self, target: Tensor, current: Tensor | None) -> None:
        """The next images' activations ``[b, ...]``, and their currents ``[T, b, ...]`` (no T if constant)."""
        start, middle = self._next, min(max(0, self._half - self._next), len(target))
        self._next += len(target)
        sizes = by_position((target.abs() if self._two_sided else target).movedim(self._axis, 1))
        for half, part in enumerate((sizes[:middle], sizes[middle:])):
            if len(part):
                self._maxima[half] = self._maxima[half].maximum(part.amax((0, 2)))
        images = slice(-start % self._every, None, self._every)
        rows = self._rows(target[images])
        filled = slice(self._filled, self._filled + len(rows))
        self._filled = filled.stop
        self.target[filled] = rows
        if current is not None and len(self._currents):
            steps = current if len(self._currents) > 1 or current.dim() > target.dim() else current[None]
            for t, step in enumerate(steps):
                self._currents[t, filled] = self._rows(step[images])

    def _rows(self, values: Tensor) -> Tensor:
        return by_position(values.movedim(self._axis, 1))[:, :, :: self._stride].transpose(1, 2).flatten(0, 1)

    def statistics(self, *, per_channel: bool = True) -> SiteStatistics:
        """Of the activations' sizes, on all images and on either half; of all processes."""
        sizes, maxima = self.target.abs() if self._two_sided else self.target, self._maxima
        if not per_channel:
            sizes, maxima = sizes.reshape(-1, 1), maxima.amax(1, keepdim=True)
        first = self._first * len(sizes) // max(1, len(self.target))
        halves = SiteStatistics.of(sizes[:first], maxima[0]), SiteStatistics.of(sizes[first:], maxima[1])
        return replace(SiteStatistics.of(sizes, maxima.amax(0)), halves=halves)

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


def position_stride(images: int, positions: int, most: int) -> int:
    """Take every so-manieth position of each image to keep roughly ``most`` values a channel; 1 takes all.

    It has no divisor in common with the number of positions: a stride that divides the width would see some
    columns only, perhaps the border alone.
    """
    stride = max(1, images * positions // most)
    while math.gcd(stride, positions) > 1:
        stride -= 1
    return stride


def by_position(values: Tensor) -> Tensor:
    """``[B, C, ...]`` as ``[B, C, positions]``; a linear layer's ``[B, C]`` has one position."""
    return values.unsqueeze(-1).flatten(2)


def channel_mean(values: Tensor) -> Tensor:
    """Per channel over the rows of all processes, summed in float64 so that the order of the images does not show."""
    return world().cat(values).mean(0, dtype=torch.float64).to(values.dtype)
