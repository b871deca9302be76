"""From a classifier's module to a spiking network: the graph, its sites, and a neuron at each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from converter.calibrate import Calibration, calibrate
from converter.config import ConvertConfig
from converter.images import MIN_IMAGES, CalibrationImages
from converter.outputs import with_scores
from converter.passes import differential, encode_operands, normalise, verify_equivalent
from converter.precision import computing_in, rounding_up
from converter.trace import capture_graph, prepared
from seenn.capture.captured import Offender
from seenn.capture.head import LEFT_OUT, are_probabilities, without_head
from seenn.capture.plain import Substitutes, in_precision
from seenn.core.graph import OpGraph
from seenn.core.network import SpikingNetwork, constant_nodes
from seenn.core.ops import (
    Activation,
    CumulativeDifference,
    IncrementalProduct,
    IntegratingNeuron,
    Neuron,
    Op,
    Quantiser,
    StatelessOp,
)
from seenn.errors import ConversionError, ModelError, UnsupportedError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A spiking network and how it came about.

    Attributes:
        network: with a neuron for each activation call site of the source, and for each encoder.
        calibration: thresholds and errors per site, on the calibration images.
        float64_difference: largest difference between source and normalised graph in float64, relative.
        head: the softmax or sigmoid that the model ends in, which is left out.
        task: what the scores say, one of ``converter.outputs.TASKS``.
    """

    network: SpikingNetwork
    calibration: Calibration
    float64_difference: float
    head: str | None = None
    task: str = "classes"


def convert_module(
    model: nn.Module,
    images: Tensor | CalibrationImages,
    config: ConvertConfig | None = None,
    *,
    output: str | int | None = None,
    task: str | None = None,
    activations: Substitutes | None = None,
    device: torch.device | str = "cpu",
    accept: Callable[[OpGraph, str], None] = lambda graph, task: None,
    memory: int | None = None,
    progress: Callable[[str, int], None] = lambda site, total: None,
) -> Conversion:
    """Converts a classifier. The model itself is not changed.

    Args:
        model: takes ``[B, C, H, W]`` and returns logits ``[B, K]``.
        images: preprocessed calibration images, ``[N, C, H, W]`` or read as they are needed, at least 16; their labels
            are not needed.
        config: recipe, neuron, correction and T; the default is the most accurate at T = 8.
        output: of a model that returns several tensors, which one: a key, a field or a position.
        task: what the model's scores say, one of ``converter.outputs.TASKS``; None follows from how the model ends.
        activations: by module class, what makes the module that stands in its place: ``{MyAct: lambda m: nn.ReLU()}``.
        device: where to calibrate, and where the network is left.
        accept: sees the ANN's graph and its task before anything is calibrated, and raises where it is not worth it.
        memory: bytes for values between layers, see ``calibrate``; the result does not depend on it.
        progress: called with each calibrated site and their total number.

    Raises:
        UnsupportedError: the model cannot be expressed, or not as ``config.strict`` asks (lists every offender); or it
            has no activation at all.
        CalibrationError: the images do not determine the thresholds.
        ConversionError: the model returns no scores, or the graph is not the model.
        ModelError: non-finite weights, or neurons in the model.
    """
    config = config or ConvertConfig()
    images = CalibrationImages.of(images)
    found = canonical_graph(
        model, images.first(2), strict=config.strict, output=output, activations=activations, whole=task == "values"
    )
    if found.head is not None:
        log.warning(LEFT_OUT, found.head)
    input_shape = images.shape
    graph, task = with_scores(found.graph, input_shape, task, found.head)
    refuse_linear(graph)
    with torch.no_grad():
        looked_at = images.first(2 if task == "classes" else MIN_IMAGES).float().cpu()
        scores = torch.cat([graph(few) for few in torch.split(looked_at, 2)])  # large images need much memory
    if task == "classes" and are_probabilities(scores):
        log.warning(
            "the model returns probabilities, and no softmax at its end could be left out: exits see scores close "
            "together; let it return logits"
        )
    logits = {"binary": 2 * scores[:, 1:], "labels": scores}.get(task)
    if logits is not None and bool(((logits >= 0) & (logits <= 1)).all()):
        log.warning(
            "the model returns numbers from 0 to 1, as probabilities are, and they are taken for logits, which mean "
            "yes above 0: let it return logits"
        )
    graph = encode_operands(graph, input_shape).to(device)
    sites = sites_of(graph)
    if not sites:
        log.warning(
            "nothing in the model is multiplied after its first layer: the result has 0 neurons, and saves nothing"
        )
    accept(graph, task)
    calibration = calibrate(
        graph, images, config, lambda site: progress(site, len(sites)), device=device, memory=memory
    )
    network = place_neurons(graph, calibration.neurons, input_shape)
    if config.coding == "differential":
        network = differential(network)
    return Conversion(
        network=network.eval(),
        calibration=calibration,
        float64_difference=found.difference,
        head=found.head,
        task=task,
    )


class Canonical(NamedTuple):
    """A model as a normalised float32 ANN graph.

    Attributes:
        graph: returns what the model's last layer does.
        difference: the largest in float64 between it and the model, relative.
        head: the function of the logits that the model ends in and the graph leaves out: a softmax or a sigmoid.
    """

    graph: OpGraph
    difference: float
    head: str | None


def canonical_graph(
    model: nn.Module,
    example: Tensor,
    *,
    strict: bool = False,
    output: str | int | None = None,
    activations: Substitutes | None = None,
    whole: bool = False,
) -> Canonical:
    """The model as a normalised float32 ANN graph, verified in float64; arguments as of ``convert_module``.

    ``whole``, a function that it ends in is not left out: quantities are what it returns.

    Raises:
        ModelError: weights are not finite, or the model holds neurons already.
        UnsupportedError: lists every call that cannot be expressed, or (``strict``) not by affine ops and neurons.
        ConversionError: the graph computes something else than the model.
    """
    refuse_neurons(model)
    source = prepared(model, example, output=output, activations=activations)
    if bad := list(_unsound(source)):
        raise ModelError(
            f"{len(bad)} weights hold NaN or infinite values: {', '.join(bad[:8])}; load a sound checkpoint"
        )
    source = in_precision(source, torch.float64).requires_grad_(False)
    example = example.detach().cpu().double()
    shape = example.shape[1:]
    with computing_in(torch.float64):
        found = capture_graph(source, example)
        graph = normalise(found.checked(strict=False), shape)
    with rounding_up(), computing_in(torch.float64):
        difference = verify_equivalent(source, graph, example)
    with computing_in(torch.float64):
        if any(isinstance(node.op, Quantiser) for node in graph):
            _say_ties(source, graph, example)
        graph, head, left_out = (graph, None, ()) if whole else without_head(graph, shape)
    found.checked(strict=strict, left_out=left_out, also=offending_maxima(graph) if strict else ())
    return Canonical(graph.float().requires_grad_(False), difference, head)


def _say_ties(source: nn.Module, graph: OpGraph, example: Tensor) -> None:
    """Says how far values that lie in the middle between two levels move the outputs: ``torch.round`` is to even."""
    with torch.no_grad():
        expected = source(example.clone())
        apart = float((graph(example) - expected).abs().max() / expected.abs().max().clamp_min(1e-300))
    if apart > 1e-6:
        log.warning(
            "values in the middle between two levels of a quantiser are rounded up, and to even by the model, as after "
            "a mean of rounded values: outputs differ by up to %.1g of the largest",
            apart,
        )


def _unsound(model: nn.Module) -> Iterator[str]:
    """The weights and statistics with NaN or infinite values; other buffers may hold ±∞, as masks and limits do."""
    for path, module in model.named_modules():
        buffers = {name: t for name, t in module.named_buffers(recurse=False) if t.is_floating_point()}
        limits = {} if isinstance(module, nn.modules.batchnorm._NormBase) else buffers
        for name, tensor in (*module.named_parameters(recurse=False), *buffers.items()):
            if bool(tensor.isnan().any() if name in limits else ~tensor.isfinite().all()):
                yield f"{path}.{name}" if path else name


def offending_maxima(graph: OpGraph) -> tuple[Offender, ...]:
    """The maxima that no activation follows, in a canonical graph, which are not strict."""
    reason, fix = "a maximum acts on running means, which --strict (strict=True) refuses", "use average pooling"
    maxima = [node for node in graph if isinstance(node.op, StatelessOp) and node.op.selects]
    return tuple(Offender(node.name, node.op.title, reason, fix) for node in maxima)


def refuse_neurons(model: nn.Module) -> None:
    """Raises ModelError for a model that is spiking already."""
    if any(isinstance(module, Neuron) for module in model.modules()):
        raise ModelError("the model already holds neurons: it needs no conversion, run it with seenn.capture")


def sites_of(graph: OpGraph) -> tuple[str, ...]:
    """Where neurons stand in an ANN graph: its activation call sites and encoders, in order."""
    return tuple(node.name for node in graph if isinstance(node.op, Activation))


def activations_of(graph: OpGraph) -> tuple[str, ...]:
    """``sites_of`` a graph that is to be trained with neurons, or their like, in place of its activations.

    Raises:
        UnsupportedError: there are none.
    """
    if not (sites := sites_of(graph)):
        raise UnsupportedError(
            "the model has no ReLU activation, so nothing in it can become a neuron: take a model with nn.ReLU, "
            "nn.ReLU6, nn.LeakyReLU or nn.PReLU"
        )
    return sites


def refuse_linear(graph: OpGraph) -> None:
    """Raises UnsupportedError for a graph that has no activation, nor any other function that is not affine."""
    if all(node.op.affine for node in graph):
        raise UnsupportedError(
            "the model has no activation, so that all of it is one linear map, which needs no spikes: convert a model "
            "with activations, such as nn.ReLU"
        )


def place_neurons(
    graph: OpGraph, neurons: Mapping[str, IntegratingNeuron], input_shape: Sequence[int]
) -> SpikingNetwork:
    """Puts a neuron at every site, and makes every other op that is not affine one over time.

    Products of two values that change are incremental; one with a value that does not is an ordinary linear op.

    Raises:
        ConversionError: a site without a neuron, or a neuron without a site.
    """
    sites = sites_of(graph)
    if missing := [site for site in sites if site not in neurons]:
        raise ConversionError(f"no neuron for the sites {', '.join(missing)}: calibrate this same graph first")
    if extra := sorted(set(neurons) - set(sites)):
        raise ConversionError(
            f"neurons for {', '.join(extra)}, which are not sites of this graph: calibrate this same graph first"
        )
    changes: dict[str, Op] = dict(neurons)
    for node in graph:
        if node.name not in changes and isinstance(node.op, StatelessOp) and not node.op.affine:
            changes[node.name] = (IncrementalProduct if node.op.bilinear else CumulativeDifference)(node.op)
    constant = constant_nodes(graph.replace(changes))
    for node in graph:
        if node.op.bilinear and sum(name in constant for name in node.inputs) == 1:
            changes[node.name] = node.op
    return SpikingNetwork(graph.replace(changes), input_shape)
