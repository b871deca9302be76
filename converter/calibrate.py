"""Thresholds and corrections for every site, in one sweep through the layers.

The sweep holds the whole calibration set at one layer at a time: its analog values, and its spike trains
from the sites before, which are already calibrated. At a site

1. the recipe turns the analog activations into a threshold per channel;
2. the neuron runs on the currents that the *spiking* network really delivers there, and its mean error is
   cancelled (``converter.corrections``).

So each layer is run once on the ANN's values and once on T steps of spikes, and every later layer sees the
corrected earlier ones. All sums are order-independent: exact maxima, integer counts, float64 means. Several
processes share the images by whole chunks and find exactly what one would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from converter.config import ConvertConfig
from converter.corrections import CORRECTIONS
from converter.corrections._sample import SiteSample
from converter.recipes.mmse import MMSE
from converter.statistics import SMALLEST, SiteStatistics, cache_blocks
from seenn.core.graph import INPUT, OpGraph, schedule
from seenn.core.ops import Activation, CumulativeDifference, Encoder, Identity, IntegratingNeuron, StatelessOp
from seenn.device import available_memory
from seenn.distributed import world
from seenn.errors import CalibrationError, UnsupportedError
from seenn.neurons import NEURONS

log = logging.getLogger(__name__)

MIN_IMAGES = 16
_CHUNK = 32  # images per call of an op; results do not depend on it beyond float rounding


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """One site after calibration.

    ``relative_error`` is ‖analog − mean spike output‖ / ‖analog‖ over the calibration images at T; None
    without correction, when no spikes were run. ``silent_channels`` were never active and borrowed their
    threshold (0 where all channels share one).
    """

    site: str
    channels: int
    silent_channels: int
    threshold_min: float
    threshold_max: float
    relative_error: float | None


@dataclass(frozen=True)
class Calibration:
    """Neurons by site, and what was seen there."""

    neurons: Mapping[str, IntegratingNeuron]
    reports: tuple[SiteReport, ...]


@dataclass
class _Value:
    """A node's value for all calibration images, in chunks."""

    analog: list[Tensor]  # [b, ...] each
    train: list[Tensor] | None  # [T, b, ...] each; None while the value does not change over time


def calibrate(
    graph: OpGraph, images: Tensor, config: ConvertConfig, progress: Callable[[str], None] = lambda site: None
) -> Calibration:
    """Neurons for every activation of a canonical ANN graph.

    Args:
        graph: from ``normalise``.
        images: preprocessed calibration images ``[N, C, H, W]``, sound (``check_images``), on the graph's device.
        config: recipe, neuron, correction and T.
        progress: called with each site's name when it is done.

    Raises:
        CalibrationError: a site that never activates (or a channel, when the config refuses those), or more
            memory needed than there is.
        UnsupportedError: activations that the kind of neuron cannot stand for.
    """
    _check_signs(graph, config.neuron)
    correction = CORRECTIONS.get(config.correction)
    shapes = graph.shapes(tuple(images.shape[1:]))
    _check_memory(graph, shapes, images, config.timesteps if correction.measured else 0)
    mine = images[world().batches(len(images), _CHUNK)]
    values = {INPUT: _Value(list(torch.split(mine, _CHUNK)), None)}
    axes = graph.channel_axes(shapes)
    neurons: dict[str, IntegratingNeuron] = {}
    reports: list[SiteReport] = []
    with torch.no_grad():
        for node, done in schedule(graph.nodes, ()):
            op, inputs = node.op, [values[name] for name in node.inputs]
            assert isinstance(op, StatelessOp)
            analog = [op(*chunk) for chunk in zip(*(value.analog for value in inputs), strict=True)]
            train, error = None, None
            if isinstance(op, Activation):
                axis = axes[node.name] if op.own_channel_axis is None else op.own_channel_axis
                threshold, silent = _choose_threshold(node.name, op, analog, axis, config)
                neuron = _neuron(op, threshold, config).to(images.device)
                if correction.measured and not neuron.settles:
                    constant = inputs[0].train is None
                    current = inputs[0].analog if constant else inputs[0].train
                    assert current is not None
                    sample = SiteSample.of(current, analog, config.timesteps, constant=constant, axis=axis)
                    neuron = correction.correct(neuron, sample, config.rounds)
                neuron = _with_axis(correction.with_initial_steps(neuron, config.steps_before), axis)
                if correction.measured:
                    train, error = _run(neuron, inputs[0], analog, config.timesteps)
                neurons[node.name] = neuron
                reports.append(
                    SiteReport(
                        site=node.name,
                        channels=analog[0].shape[axis],
                        silent_channels=silent,
                        threshold_min=float(neuron.v_threshold.min()),
                        threshold_max=float(neuron.v_threshold.max()),
                        relative_error=error,
                    )
                )
                progress(node.name)
            elif correction.measured:
                train = _trains(op, inputs, config.timesteps)
            values[node.name] = _Value(analog, train)
            for name in done:
                del values[name]
    return Calibration(neurons, tuple(reports))


def check_images(images: Tensor) -> None:
    """Raises CalibrationError unless there are at least 16 samples of finite floats: images ``[N, C, H, W]``, signals
    ``[N, C, L]``, vectors ``[N, F]``."""
    if images.dim() < 2:
        raise CalibrationError(f"calibration samples must be [N, C, ...] or [N, F], got shape {list(images.shape)}")
    if len(images) < MIN_IMAGES:
        raise CalibrationError(
            f"{len(images)} calibration images are too few: thresholds would describe only those; give at least "
            f"{MIN_IMAGES}, better 256"
        )
    if not images.is_floating_point():
        raise CalibrationError(f"calibration images are {images.dtype}: prepare them as for the ANN, as floats")
    if not bool(images.isfinite().all()):
        raise CalibrationError("the calibration images hold NaN or infinite pixels: check the preprocessing")


def relative_error(wrong: float, power: float) -> float:
    """‖error‖ / ‖signal‖ from their squares; 1 where there is an error and no signal at all."""
    return (wrong / power) ** 0.5 if power > 0 else float(wrong > 0)


def squared_norm(values: Tensor) -> Tensor:
    """The sum of squares in float64, where those of small values do not vanish."""
    norm: Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
    return norm.square()


def _check_signs(graph: OpGraph, neuron: str) -> None:
    """Raises UnsupportedError, naming all sites, where spikes of one sign are to carry values of both."""
    sites = [
        node.name
        for node in graph
        if isinstance(node.op, Activation) and node.op.two_sided and not isinstance(node.op, Identity)
    ]
    if sites and not NEURONS.get(neuron).signed:
        raise UnsupportedError(
            f"{len(sites)} activations have values below zero ({', '.join(sites[:8])}{', …' if sites[8:] else ''}), "
            f"which the spikes of {neuron} neurons cannot carry: use signed neurons (--neuron signed)"
        )


def _neuron(op: Activation, threshold: Tensor, config: ConvertConfig) -> IntegratingNeuron:
    """What stands for ``op``: an encoder, of whatever kind the other neurons are, for the identity."""
    if isinstance(op, Identity):
        return Encoder(threshold, max_spikes=config.encoder_levels)
    return NEURONS.get(config.neuron).convert(op, threshold, config.max_spikes)


def _with_axis(neuron: IntegratingNeuron, axis: int) -> IntegratingNeuron:
    """The same neuron for values with their channels along ``axis``."""
    arguments: dict[str, Any] = {**neuron.tensors(), **neuron.config(), "axis": axis}
    return neuron if neuron.axis == axis else type(neuron)(**arguments)


def _choose_threshold(
    site: str, op: Activation, analog: Sequence[Tensor], axis: int, config: ConvertConfig
) -> tuple[Tensor, int]:
    """The site's threshold, scalar or ``[C]``, and the number of channels that borrowed theirs."""
    recipe, max_spikes = config.recipe, config.max_spikes
    if isinstance(op, Identity):
        recipe, max_spikes = (MMSE() if recipe.learned else recipe), config.encoder_levels
    signed = NEURONS.get(config.neuron).signed
    if (own := op.own_threshold(config.timesteps, max_spikes, signed=signed)) is not None:
        return own, 0
    # Where both signs occur they share one threshold: rounding and clipping are alike on either side.
    sizes = [chunk.abs() for chunk in analog] if op.two_sided else analog
    statistics = SiteStatistics.of(sizes, axis=axis, per_channel=recipe.per_channel)
    if not bool(statistics.maximum.isfinite().all()):
        raise CalibrationError(f"site {site!r}: the ANN's activations are not finite; check its weights")
    alive = statistics.maximum > SMALLEST
    silent = int((~alive).sum())
    if not bool(alive.any()):
        largest = float(statistics.maximum.max())
        what = f"reaches at most {largest:.1e}, which float32 cannot compute with," if largest else "is never active"
        raise CalibrationError(
            f"site {site!r} {what} on the calibration images: no threshold can be chosen. "
            "Check that the images are preprocessed as in training, and that the checkpoint is trained"
        )
    if silent and config.silent_channels == "refuse":
        where = (~alive).nonzero().flatten().tolist()
        raise CalibrationError(
            f"site {site!r}: {silent} of {len(alive)} channels are never active on the calibration images "
            f"({', '.join(map(str, where[:8]))}{', …' if silent > 8 else ''}): use more images, or let them borrow "
            "the site's largest threshold (silent_channels='borrow')"
        )
    ranges = recipe.range(statistics, config.timesteps * max_spikes).to(analog[0].dtype)
    # A channel that calibration never saw active gets the site's widest range: it stays as coarse as the rest.
    ranges = torch.where(alive & (ranges > 0), ranges, ranges[alive].amax())
    if silent:
        log.warning(
            "site %s: %d of %d channels were never active in calibration; they borrow the site's largest threshold",
            site,
            silent,
            len(alive),
        )
    threshold = (ranges / max_spikes).to(analog[0].device)
    return threshold if recipe.per_channel else threshold[0], silent


def _run(
    neuron: IntegratingNeuron, current: _Value, analog: Sequence[Tensor], timesteps: int
) -> tuple[list[Tensor], float]:
    """The site's spike trains, and its relative error."""
    trains, squares = [], []
    for chunk, target in enumerate(analog):
        train = target.new_empty(timesteps, *target.shape)
        steps = _over_time(current, chunk, timesteps)
        for rows in cache_blocks(target):
            train[:, rows], _ = neuron.unroll((steps[:, rows],), neuron.initial_state(target[rows]))
        trains.append(train)
        squares.append(torch.stack([squared_norm(target - train.mean(0)), squared_norm(target)]))
    wrong, power = world().cat(torch.stack(squares)).sum(0).tolist()
    return trains, relative_error(wrong, power)


def _trains(op: StatelessOp, inputs: Sequence[_Value], timesteps: int) -> list[Tensor] | None:
    """The op over time: affine ops take all steps at once, others go through their cumulative difference."""
    if all(value.train is None for value in inputs):
        return None
    result = []
    for chunk in range(len(inputs[0].analog)):
        steps = tuple(_over_time(value, chunk, timesteps) for value in inputs)
        if op.affine:
            result.append(op(*(x.flatten(0, 1) for x in steps)).unflatten(0, (timesteps, -1)))
        else:
            memory = CumulativeDifference(op)
            result.append(memory.unroll(steps, memory.initial_state(*(x[0] for x in steps)))[0])
    return result


def _over_time(value: _Value, chunk: int, timesteps: int) -> Tensor:
    if value.train is not None:
        return value.train[chunk]
    return value.analog[chunk].expand(timesteps, *value.analog[chunk].shape)


def _check_memory(graph: OpGraph, shapes: Mapping[str, tuple[int, ...]], images: Tensor, timesteps: int) -> None:
    """Refuses before the work what would not fit: the widest set of values alive at one time."""
    size = {name: images.element_size() * (1 + timesteps) * torch.Size(shape).numel() for name, shape in shapes.items()}
    size[INPUT] = 0
    alive = peak = 0
    for node, done in schedule(graph.nodes, ()):
        alive += size[node.name]
        peak = max(peak, alive)
        alive -= sum(size[name] for name in done)
    needed, available = peak * len(images), available_memory(images.device)
    if available is not None and needed > available:
        what = f"the ANN's values and {timesteps} steps of spikes" if timesteps else "the ANN's values"
        fits = int(available // peak)
        fix = f"use at most {fits} of them" if fits >= MIN_IMAGES else "use smaller images or a smaller network"
        raise CalibrationError(
            f"calibration on {len(images)} images needs about {needed / 1e9:.1f} GB, for {what}, and "
            f"{available / 1e9:.1f} GB are free: {fix}"
            f"{', fewer timesteps, or no correction' if timesteps else ''}"
        )
