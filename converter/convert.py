"""The verb: a pretrained ANN in, a checked spiking network out."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from converter.calibrate import Calibration, calibrate, check_images
from converter.config import ConvertConfig
from converter.double import in_double
from converter.passes import normalise, prove_equal
from converter.place import place_neurons, sites_of
from converter.prepass import with_prepass
from converter.trace import trace_model
from seenn.core.graph import OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IntegratingNeuron, Neuron
from seenn.errors import ConversionError, ModelError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A spiking network and how it came about.

    Attributes:
        network: ready for ``seenn.predict``.
        sites: activation call sites of the source; the network has exactly as many neurons.
        calibration: thresholds and errors per site, on the calibration images.
        float64_difference: largest difference between source and normalised graph in float64, relative.
    """

    network: SpikingNetwork
    sites: tuple[str, ...]
    calibration: Calibration
    float64_difference: float


def canonical_graph(model: nn.Module, example: Tensor, *, analog_islands: bool = False) -> tuple[OpGraph, float]:
    """The model as a normalised float32 ANN graph, proven equal in float64; ``(graph, relative difference)``.

    Raises:
        ModelError: weights are not finite, or the model holds neurons already.
        UnsupportedError: lists every call that cannot be expressed, or not without ``analog_islands``.
        ConversionError: the graph computes something else than the model.
    """
    refuse_neurons(model)
    bad = [name for name, t in model.state_dict().items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        raise ModelError(
            f"{len(bad)} weights hold NaN or infinite values: {', '.join(bad[:8])}; load a sound checkpoint"
        )
    source = copy.deepcopy(model).cpu().eval().double().requires_grad_(False)
    example = example.detach().cpu().double()
    with in_double():
        graph = normalise(trace_model(source, example, analog_islands=analog_islands), example.shape[1:])
        difference = prove_equal(source, graph, example)
    return graph.float().requires_grad_(False), difference


def refuse_neurons(model: nn.Module) -> None:
    """Raises ModelError for a model that is spiking already."""
    if any(isinstance(module, Neuron) for module in model.modules()):
        raise ModelError("the model already holds neurons: it needs no conversion, run it with seenn.capture")


def convert(
    model: nn.Module,
    images: Tensor,
    config: ConvertConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[str, int], None] = lambda site, total: None,
) -> Conversion:
    """Converts a classifier into a spiking network. The model itself is not changed.

    Args:
        model: takes ``[B, C, H, W]`` and returns logits ``[B, K]``.
        images: preprocessed calibration images ``[N, C, H, W]``, at least 16; their labels are not needed.
        config: recipe, neuron, correction and T; the default is the most accurate at T = 8.
        device: where to calibrate, and where the network is left.
        progress: called with each calibrated site and their total number.

    Raises:
        UnsupportedError: the model cannot be expressed (lists every offender), or has no activation at all.
        CalibrationError: the images do not determine the thresholds.
        ConversionError: the result does not have one neuron a site, or the graph is not the model.
        ModelError: non-finite weights, or neurons in the model.
    """
    config = config or ConvertConfig()
    check_images(images)
    graph, difference = canonical_graph(model, images[:2], analog_islands=config.analog_islands)
    input_shape = tuple(images.shape[1:])
    output_shape = graph.shapes(input_shape)[graph.output]
    if len(output_shape) != 1:
        returned = ", ".join(map(str, ("B", *output_shape)))
        raise ConversionError(f"the model must return one score per class, [B, K]; it returns [{returned}]")
    sites = sites_of(graph)
    if not sites:
        log.warning(
            "the model has no activation that can spike: the result has 0 neurons, all of it is analog, and it saves "
            "nothing over the ANN"
        )
    graph = graph.to(device)
    calibration = calibrate(graph, images.to(device, torch.float32), config, lambda site: progress(site, len(sites)))
    neurons: Mapping[str, IntegratingNeuron] = calibration.neurons
    if config.prepass:
        rule, steps = config.correction, config.prepass
        neurons = {site: with_prepass(neuron, rule=rule, steps=steps) for site, neuron in neurons.items()}
    network = place_neurons(graph, neurons, input_shape).eval()
    if network.sites != sites:
        raise ConversionError(f"the network has {len(network.sites)} neurons for {len(sites)} activation sites")
    return Conversion(network=network, sites=sites, calibration=calibration, float64_difference=difference)
