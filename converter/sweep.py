"""Thresholds and corrections for every site, in one sweep through the layers.

The sweep is at one site at a time, with all calibration images, a chunk at a time:

1. the ANN's activations, and the currents that the *spiking* network really delivers there, are looked at; the recipe
   turns the former into a threshold per channel, and the neuron's mean error on the latter is cancelled
   (``converter.corrections``);
2. the neuron runs, and its spikes wait for the sites that they reach (``converter.segments``).

So each layer is run once on the ANN's values and on T steps of spikes, the latter twice for the images whose currents
are looked at, and every later layer sees the corrected earlier ones. What waits does so in a bounded memory, and beyond
it on disk (``converter.spill``): the result does not depend on the bound. All sums are order-independent: exact maxima,
integer counts, float64 means. Several processes share the images by whole chunks and find exactly what one would.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from converter.config import ConvertConfig
from converter.corrections import CORRECTIONS
from converter.images import MIN_IMAGES, CalibrationImages
from converter.sample import CURRENT_BLOCK, CURRENT_IMAGES, Activations, Currents
from converter.segments import Segment, Values, repeated, segments
from converter.spill import Spill
from converter.statistics import cache_blocks, relative_error, squared_norm
from converter.thresholds import choose_threshold
from seenn.core.graph import INPUT, OpGraph
from seenn.core.ops import Activation, Encoder, Identity, IntegratingNeuron
from seenn.device import available_memory, return_memory
from seenn.distributed import world
from seenn.errors import CalibrationError
from seenn.neurons import NEURONS

MEMORY = 1 << 30  # bytes, for what waits between layers
_CHUNK = 32  # images at a time, at most
_WORKING = 1 << 27  # bytes of the largest value of a chunk, over all steps


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """One site after calibration.

    ``relative_error`` is ‖analog − mean spike output‖ / ‖analog‖ over the calibration images at T; None
    without correction, when no spikes were run. ``silent_channels`` were never active and borrowed their
    threshold (0 where all channels share one). ``clipped_unseen`` is the share of the activations that a range found
    on one half of the images cuts off on the other half, and ``clipped_energy`` the share of their squares that is
    lost, ``clipped_excess`` more than on the half that the range was found on; 0 where the threshold was learned.
    """

    site: str
    channels: int
    silent_channels: int
    threshold_min: float
    threshold_max: float
    relative_error: float | None
    clipped_unseen: float
    clipped_energy: float
    clipped_excess: float


class Sweep:
    """One calibration, from site to site; to be closed."""

    def __init__(
        self, graph: OpGraph, images: CalibrationImages, config: ConvertConfig, device: torch.device, memory: int | None
    ) -> None:
        self.graph, self.images, self.config, self.device = graph, images, config, device
        self.correction = CORRECTIONS.get(config.correction)
        self.timesteps = config.timesteps if self.correction.measured else 0
        self.segments = segments(graph)
        self.shapes = graph.shapes(images.shape)
        self.axes = graph.channel_axes(self.shapes)
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        largest = 4 * (1 + self.timesteps) * max(sizes.values())
        self.chunk = max(1, min(_CHUNK, _WORKING // largest))
        self.mine = world().batches(len(images), self.chunk)
        self.every = max(1, images.independent // CURRENT_IMAGES)  # block of images whose currents are looked at
        if memory is None:
            available = available_memory(torch.device("cpu"))
            memory = MEMORY if available is None else min(MEMORY, available // 2)
        spill = Spill(memory)
        self.values = Values(graph, spill, self.timesteps, device)
        count = self.mine.stop - self.mine.start
        self.chunks = range(-(-count // self.chunk))
        _check_space(count * self._waiting(sizes), count, spill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.values.close()

    def __iter__(self) -> Iterator[tuple[IntegratingNeuron, SiteReport]]:
        waiting = self.values.new(INPUT)
        for images in self.images.chunks(self.chunk, self.mine):
            waiting.analog.append(images.to(torch.float32))
        return map(self._site, self.segments)

    def _waiting(self, sizes: Mapping[str, int]) -> int:
        """Bytes of an image that wait between layers, at most."""
        alive, most = {INPUT: 4 * sizes[INPUT]}, 0
        for segment in self.segments:
            for name in {*segment.gives, segment.site.name}:
                each = 0 if name not in self.values.changing else 1 if name == segment.site.name else 4
                alive[name] = sizes[name] * (4 + each * self.timesteps)
            most = max(most, sum(alive.values()))
            for name in self._over(segment):
                del alive[name]
        return most

    @staticmethod
    def _over(segment: Segment) -> Collection[str]:
        """Values that wait no longer."""
        return {*segment.done, segment.site.name} - {*segment.gives}

    def _site(self, segment: Segment) -> tuple[IntegratingNeuron, SiteReport]:
        node, config, measured = segment.site, self.config, self.correction.measured
        op = node.op
        assert isinstance(op, Activation)
        axis = self.axes[node.name] if op.own_channel_axis is None else op.own_channel_axis
        seen, currents = self._look(segment, op, axis)
        self._return_memory()
        chosen = choose_threshold(node.name, op, seen, config)
        neuron = _neuron(op, chosen.value.to(self.device), config).to(self.device)
        if measured and not neuron.settles:
            neuron = self.correction.correct(neuron, currents.sample(), config.rounds)
        neuron = _with_axis(self.correction.with_initial_steps(neuron, config.steps_before), axis)
        error = self._fire(segment, neuron) if measured else None
        self.values.free(self._over(segment))
        self._return_memory()
        report = SiteReport(
            site=node.name,
            channels=self.shapes[node.name][axis - 1],
            silent_channels=chosen.silent,
            threshold_min=float(neuron.v_threshold.min()),
            threshold_max=float(neuron.v_threshold.max()),
            relative_error=error,
            clipped_unseen=chosen.clipped,
            clipped_energy=chosen.clipped_energy,
            clipped_excess=chosen.excess,
        )
        return neuron, report

    def _return_memory(self) -> None:
        """Where values are large: it takes time."""
        if self.chunk < _CHUNK:
            return_memory()

    def _look(self, segment: Segment, op: Activation, axis: int) -> tuple[Activations, Currents]:
        """The ANN's values of the segment, and what is looked at of its site."""
        source, site, count = segment.site.inputs[0], segment.site.name, len(self.images)
        given = {name: self.values.new(name) for name in {*segment.gives, site}}
        seen = Activations(count, axis, two_sided=op.two_sided)
        currents = Currents(-(-count // self.every), axis)
        for chunk in self.chunks:
            ann, _ = self.values.run(segment, chunk, {source, *given}, steps=False)
            ann[site] = target = op(ann[source])
            for name, value in given.items():
                value.analog.append(ann[name])
            first = self.mine.start + chunk * self.chunk
            seen.add(first, target)
            if self.timesteps:
                some = self._watched(first, len(target))
                current = repeated(ann[source][some], self.timesteps)
                if source in self.values.changing and current.shape[1]:
                    current = self.values.run(segment, chunk, {source}, analog=False, images=some)[1][source]
                currents.add(first + some.start, target[some], current)
        return seen, currents

    def _watched(self, first: int, count: int) -> slice:
        """Which of ``count`` images from number ``first`` on lie in the blocks whose currents are looked at."""
        found = [n for n in range(count) if (first + n) // CURRENT_BLOCK % self.every == 0]
        return slice(found[0], found[-1] + 1) if found else slice(0, 0)

    def _fire(self, segment: Segment, neuron: IntegratingNeuron) -> float:
        """The segment's values over time, with the spikes of its site; the site's relative error."""
        source, site = segment.site.inputs[0], self.values[segment.site.name]
        site.neuron = neuron
        given = [name for name in segment.gives if name in self.values.changing and name != segment.site.name]
        squares = []
        for chunk in self.chunks:
            ann, steps = self.values.run(segment, chunk, {source, *given}, analog=False)
            for name in given:
                self.values[name].steps.append(steps[name])
            current = steps[source] if source in steps else repeated(ann[source], self.timesteps)
            target = site.analog[chunk].to(self.device)
            counts = torch.empty(current.shape, dtype=torch.int8)
            total = torch.zeros_like(target)
            for rows in cache_blocks(target):
                state = neuron.initial_state(target[rows])
                for t in range(self.timesteps):
                    count, state = neuron.fire(current[t, rows], state, in_place=True)
                    counts[t, rows] = count.to(counts)
                    total[rows] += count
            site.steps.append(counts)
            wrong = target - neuron.emit(total) / self.timesteps
            squares.append(torch.stack([squared_norm(wrong), squared_norm(target)]))
        return relative_error(*world().cat(torch.stack(squares)).sum(0).tolist())


def _neuron(op: Activation, threshold: Tensor, config: ConvertConfig) -> IntegratingNeuron:
    """What stands for ``op``: an encoder, of whatever kind the other neurons are, for the identity."""
    if isinstance(op, Identity):
        return Encoder(threshold, max_spikes=config.encoder_spikes)
    return NEURONS.get(config.neuron).convert(op, threshold, config.max_spikes)


def _with_axis(neuron: IntegratingNeuron, axis: int) -> IntegratingNeuron:
    """The same neuron for values with their channels along ``axis``."""
    arguments: dict[str, Any] = {**neuron.tensors(), **neuron.config(), "axis": axis}
    return neuron if neuron.axis == axis else type(neuron)(**arguments)


def _check_space(needed: int, images: int, spill: Spill) -> None:
    """Refuses before the work what would fit neither into memory nor on the disk."""
    free = shutil.disk_usage(spill.folder).free
    if needed > spill.free + free:
        fits = int(images * (spill.free + free) / needed)
        fewer = f"use at most {fits} images, " if fits >= MIN_IMAGES else ""
        raise CalibrationError(
            f"calibration on {images} images puts {needed / 1e9:.1f} GB aside, and has {spill.free / 1e9:.1f} GB of "
            f"memory and {free / 1e9:.1f} GB of disk in {spill.folder}: {fewer}free space, or name another folder by "
            "the variable TMPDIR"
        )
