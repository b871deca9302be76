"""Neurons for every site of an ANN's graph, with thresholds and corrections from calibration images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.config import ConvertConfig
from converter.images import CalibrationImages
from converter.sweep import SiteReport, Sweep
from seenn.core.graph import OpGraph
from seenn.core.ops import Activation, Identity, IntegratingNeuron
from seenn.errors import UnsupportedError
from seenn.neurons import NEURONS

log = logging.getLogger(__name__)

TRUSTED = 0.01  # of the energy that unseen images may lose more than seen ones


@dataclass(frozen=True)
class Calibration:
    """Neurons by site, and what was seen there."""

    neurons: Mapping[str, IntegratingNeuron]
    reports: tuple[SiteReport, ...]


def calibrate(
    graph: OpGraph,
    images: Tensor | CalibrationImages,
    config: ConvertConfig,
    progress: Callable[[str], None] = lambda site: None,
    *,
    device: torch.device | str = "cpu",
    memory: int | None = None,
) -> Calibration:
    """Neurons for every activation of a canonical ANN graph.

    Args:
        graph: from ``normalise``, on ``device``.
        images: preprocessed calibration images ``[N, C, H, W]``.
        config: recipe, neuron, correction and T.
        progress: called with each site's name when it is done.
        device: where to compute.
        memory: bytes that values may take while they wait for later layers, the rest of them being written to
            temporary files; None takes 1 GiB, or half of what is free. The result does not depend on it.

    Raises:
        CalibrationError: a site that never activates (or a channel, when the config refuses those), or more
            space needed than there is.
        UnsupportedError: activations that the kind of neuron cannot stand for.
    """
    _check_signs(graph, config.neuron)
    found = CalibrationImages.of(images)
    neurons: dict[str, IntegratingNeuron] = {}
    reports: list[SiteReport] = []
    with torch.no_grad(), Sweep(graph, found, config, torch.device(device), memory) as sweep:
        for neuron, report in sweep:
            neurons[report.site] = neuron
            reports.append(report)
            progress(report.site)
    _warn_of_few(reports, len(found))
    return Calibration(neurons, tuple(reports))


def _check_signs(graph: OpGraph, neuron: str) -> None:
    """Raises UnsupportedError, naming all sites, where spikes of one sign are to carry values of both."""
    activations = (node for node in graph if isinstance(node.op, Activation) and not isinstance(node.op, Identity))
    sites = [node.name for node in activations if node.op.two_sided]
    if sites and not NEURONS.get(neuron).signed:
        raise UnsupportedError(
            f"{len(sites)} activations have values below zero ({', '.join(sites[:8])}{', …' if sites[8:] else ''}), "
            f"which the spikes of {neuron} neurons cannot carry: use signed neurons (--neuron signed)"
        )


def _warn_of_few(reports: Sequence[SiteReport], images: int) -> None:
    """Says where ranges lose much more on images that they were not found on, and about how many would do."""
    few = [report for report in reports if report.clipped_excess > TRUSTED]
    if few:
        worst = max(few, key=lambda report: report.clipped_excess)
        log.warning(
            "%d calibration images are too few to trust the ranges of %d sites: on unseen ones they clip up to %.1f %% "
            "more of the energy (%s); give about %d",
            images,
            len(few),
            100 * worst.clipped_excess,
            worst.site,
            math.ceil(images * worst.clipped_excess / TRUSTED),  # a maximum of n images is passed by one in n others
        )
