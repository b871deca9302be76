"""Thresholds and corrections for every site, in one sweep through the layers.

The sweep holds the whole calibration set at one layer at a time: its analog values, and its spike trains
from the sites before, which are already calibrated. At a site

1. the recipe turns the analog activations into a threshold per channel;
2. the neuron runs on the currents that the *spiking* network really delivers there, and its mean error is
   cancelled (``converter.correct``).

So each layer is run once on the ANN's values and once on T steps of spikes, and every later layer sees the
corrected earlier ones. All sums are order-independent: exact maxima, integer counts, float64 means. Several
processes share the images by whole chunks and find exactly what one would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.config import ConvertConfig
from converter.correct import CORRECTIONS, SiteSample
from converter.neurons import along, check_signs, make_neuron, site_axis
from converter.recipes import Learned, SiteStatistics
from converter.sampling import cache_blocks
from seenn.core.graph import INPUT, Node, OpGraph, schedule
from seenn.core.ops import QCFS, Activation, CumulativeDifference, IntegratingNeuron, StatelessOp
from seenn.device import available_memory
from seenn.distributed import world
from seenn.errors import CalibrationError, ConversionError

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
    check_signs(graph, config.neuron)
    spiking = config.correction in CORRECTIONS
    shapes = graph.shapes(tuple(images.shape[1:]))
    _check_memory(graph, shapes, images, config.timesteps if spiking else 0)
    mine = images[world().batches(len(images), _CHUNK)]
    values = {INPUT: _Value(list(torch.split(mine, _CHUNK)), None)}
    axes = graph.channel_axes(shapes)
    neurons: dict[str, IntegratingNeuron] = {}
    reports: list[SiteReport] = []
    with torch.no_grad():
        for node, done in schedule(graph.nodes, ()):
            inputs = [values[name] for name in node.inputs]
            assert isinstance(node.op, StatelessOp)
            analog = [node.op(*chunk) for chunk in zip(*(value.analog for value in inputs), strict=True)]
            if isinstance(node.op, Activation):
                axis = site_axis(node.op, axes[node.name])
                neuron, silent = _choose_threshold(node, analog, axis, config)
                train, error = None, None
                if spiking:
                    current = inputs[0].analog if inputs[0].train is None else inputs[0].train
                    constant = inputs[0].train is None
                    sample = SiteSample.of(current, analog, config.timesteps, constant=constant, axis=axis)
                    neuron = CORRECTIONS[config.correction](neuron, sample, config.rounds)
                neuron = along(neuron, axis)
                if spiking:
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
            else:
                train = _trains(node.op, inputs, config.timesteps) if spiking else None
            values[node.name] = _Value(analog, train)
            for name in done:
                del values[name]
    return Calibration(neurons, tuple(reports))


def check_images(images: Tensor) -> None:
    """Raises CalibrationError unless there are at least 16 images ``[N, C, H, W]`` of finite floats."""
    if images.dim() != 4:
        raise CalibrationError(f"calibration images must be [N, C, H, W], got shape {list(images.shape)}")
    if len(images) < MIN_IMAGES:
        raise CalibrationError(
            f"{len(images)} calibration images are too few: thresholds would describe only those; "
            f"give at least {MIN_IMAGES}, better 256"
        )
    if not images.is_floating_point():
        raise CalibrationError(f"calibration images are {images.dtype}: prepare them as for the ANN, as floats")
    if not bool(images.isfinite().all()):
        raise CalibrationError("the calibration images hold NaN or infinite pixels: check the preprocessing")


def _choose_threshold(
    node: Node, analog: Sequence[Tensor], axis: int, config: ConvertConfig
) -> tuple[IntegratingNeuron, int]:
    assert isinstance(node.op, Activation)
    recipe, neuron = config.recipe, config.neuron
    if isinstance(node.op, QCFS):
        if not isinstance(recipe, Learned):
            raise ConversionError(
                f"site {node.name!r} is a QCFS activation, whose threshold is learned: convert with the qcfs recipe, "
                f"not with {recipe.name}"
            )
        return make_neuron(node.op, node.op.v_threshold.detach() / neuron.max_spikes, neuron), 0
    # Where both signs occur they share one threshold: rounding and clipping are alike on either side.
    sizes = [chunk.abs() for chunk in analog] if node.op.two_sided else analog
    statistics = SiteStatistics.of(sizes, axis=axis, per_channel=recipe.per_channel)
    if not bool(statistics.maximum.isfinite().all()):
        raise CalibrationError(f"site {node.name!r}: the ANN's activations are not finite; check its weights")
    alive = statistics.maximum > 0
    silent = int((~alive).sum())
    if not bool(alive.any()):
        raise CalibrationError(
            f"site {node.name!r} is never active on the calibration images: no threshold can be chosen. "
            "Check that the images are preprocessed as in training, and that the checkpoint is trained"
        )
    if silent and config.silent_channels == "refuse":
        where = (~alive).nonzero().flatten().tolist()
        raise CalibrationError(
            f"site {node.name!r}: {silent} of {len(alive)} channels are never active on the calibration images "
            f"({', '.join(map(str, where[:8]))}{', …' if silent > 8 else ''}): use more images, or let them borrow "
            "the site's largest threshold (silent_channels='borrow')"
        )
    ranges = recipe.range(statistics, config.timesteps * neuron.max_spikes).to(analog[0].dtype)
    # A channel that calibration never saw active gets the site's widest range: it stays as coarse as the rest.
    ranges = torch.where(alive & (ranges > 0), ranges, ranges[alive].amax())
    if silent:
        log.warning(
            "site %s: %d of %d channels were never active in calibration; they borrow the site's largest threshold",
            node.name,
            silent,
            len(alive),
        )
    threshold = (ranges / neuron.max_spikes).to(analog[0].device)
    if not recipe.per_channel:
        threshold = threshold[0]
    return make_neuron(node.op, threshold, neuron), silent


def _run(
    neuron: IntegratingNeuron, current: _Value, analog: Sequence[Tensor], timesteps: int
) -> tuple[list[Tensor], float]:
    """The site's spike trains, and its relative error."""
    trains = []
    for chunk, target in enumerate(analog):
        train = target.new_empty(timesteps, *target.shape)
        steps = _over_time(current, chunk, timesteps)
        for rows in cache_blocks(target):
            state = neuron.initial_state(target[rows])
            for t in range(timesteps):
                count, state = neuron.fire(steps[t, rows], state, in_place=True)
                neuron.emit(count, out=train[t, rows])
        trains.append(train)
    pairs = list(zip(analog, trains, strict=True))
    sums = [
        torch.stack([values.square().sum(dtype=torch.float64) for values in (target - train.mean(0), target)])
        for target, train in pairs
    ]
    wrong, power = world().cat(torch.stack(sums)).sum(0).tolist()
    return trains, (wrong / power) ** 0.5


def _trains(op: StatelessOp, inputs: Sequence[_Value], timesteps: int) -> list[Tensor] | None:
    """The op over time: affine ops take all steps at once, others go through their cumulative difference."""
    if all(value.train is None for value in inputs):
        return None
    result = []
    for chunk in range(len(inputs[0].analog)):
        steps = [_over_time(value, chunk, timesteps) for value in inputs]
        if op.affine:
            result.append(op(*(x.flatten(0, 1) for x in steps)).unflatten(0, (timesteps, -1)))
            continue
        memory = CumulativeDifference(op)
        state = memory.initial_state(*(x[0] for x in steps))
        outputs = []
        for t in range(timesteps):
            output, state = memory.step(tuple(x[t] for x in steps), state)
            outputs.append(output)
        result.append(torch.stack(outputs))
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
