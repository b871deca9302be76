"""Spiking networks trained as such: built from any model, trained, their normalisation folded."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from converter.conversion import activations_of, refuse_neurons
from converter.known import with_channel
from converter.load import ModelSpec, build_model, check_name
from converter.passes import fold_batch_norm, verify_equivalent
from converter.trace import capture_graph
from seenn.analysis.collect import collect_run
from seenn.capture import capture
from seenn.capture.head import LEFT_OUT, without_head
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron
from seenn.data import DataSplits, Stated, as_splits
from seenn.device import recording_gradients
from seenn.errors import DataError, ModelArgumentError, ModelError
from seenn.metrics import accuracy_per_timestep
from seenn.models import MODELS, build_spiking_model
from seenn.neurons import NEURONS
from seenn.snn import PREPARE_SAMPLES, SNN
from seenn.training import DirectConfig, Run, TrainConfig
from seenn.training import train_direct as fit_over_time
from seenn.version import versions

log = logging.getLogger(__name__)

Rules = Mapping[str, Any]  # keywords of a neuron kind's ``train``


@recording_gradients()
def train_direct(
    model: str | ModelSpec,
    data: Any,
    config: TrainConfig | None = None,
    direct: DirectConfig | None = None,
    *,
    neuron: str = "lif",
    levels: int | None = None,
    rules: Rules | None = None,
    width: float = 1.0,
    check_images: int = 1000,
    device: torch.device | str = "cpu",
    seed: int = 0,
    open_run: Callable[[Mapping[str, Any]], Run | None] = lambda record: None,
    on_step: Callable[[int, int], None] | None = None,
) -> SNN:
    """Trains a spiking network from random weights by backpropagation through time.

    ::

        snn = train_direct("spiking_small", seenn.load_data("digits"), neuron="if")

    Args:
        model: a model of ``seenn.models`` (``spiking_resnet19``), or any that ``converter.load`` builds, whose
            activations then become neurons.
        data: ``DataSplits``, or what ``load_data`` makes some of; trained on the train split, the best epoch chosen on
            the calibration split, checked on the exit split.
        config: of the training.
        direct: T, loss and encoding.
        neuron: kind at every site, one of ``seenn.neurons.NEURONS``.
        levels: Γ; None is the kind's default.
        rules: of the neuron, see its kind.
        width: factor of the channels, for models of ``seenn.models`` only.
        check_images: how many images of the exit split are run.
        seed: recorded; the training draws from ``config.seed``.
        open_run: gets all that determines the outcome, and returns the run to save it in.

    Raises:
        ModelError: there is no such model, or the images are too small for it.
        UnsupportedError: lists every call that cannot be expressed.
        DataError: recordings of events of another T, data to be encoded twice, or more classes than the model has.
        TrainingError: the loss is no number any more.
        ValueError: an argument out of range, or ``width`` for a model that has none.
    """
    direct = direct or DirectConfig()
    config = config or TrainConfig(label_smoothing=0.0)
    data = prepare_splits(as_splits(data, "train_direct", measured=True), direct)
    spec = model if isinstance(model, ModelSpec) else ModelSpec(name=model)
    spec = replace(spec, num_classes=spec.num_classes or data.num_classes)
    data.train.check_classes(spec.num_classes or data.num_classes, spec.name)
    data = with_channel(spec, data)
    p, kind, rules = data.preprocessing, NEURONS.get(neuron), rules or {}

    def make_neuron() -> Neuron:
        return kind.train(levels, **rules)

    example = make_neuron()
    network, source = spiking_network(spec, make_neuron, p.shape, width=width)
    surrogate = None if example.surrogate is None else type(example.surrogate).__name__.lower()
    source = {**source, "neuron": example.kind, **example.config(), "surrogate": surrogate}
    record = {"direct": direct.to_record(), "training": config.to_record(), "data": data.manifest()}
    run = open_run({"source": source, **record})
    result = fit_over_time(network, data, config, direct, device=device, run=run, on_step=on_step)
    data = data.with_encoding(direct.encoding)
    folded, difference = fold_normalisation(network, data.exit.batch(limit=8).inputs, direct.timesteps)
    checked = collect_run(folded.to(device), data.exit, direct.timesteps, limit=check_images)
    manifest = {
        "source": source,
        "data": record["data"],
        "class_names": list(data.class_names),
        "timesteps": direct.timesteps,
        "encoding": None if direct.encoding is None else direct.encoding.to_json(),
        "direct": {
            **record["direct"],
            "training": record["training"],
            "epoch": result.best.epoch,
            "epochs": len(result.epochs),
            "validation_accuracy": result.best.accuracy,
        },
        "seed": seed,
        "versions": versions(),
        "check": {
            "split": "exit",
            "samples": len(checked.labels),
            "accuracy_per_timestep": accuracy_per_timestep(checked.logits_sum, checked.labels).tolist(),
            "float64_difference": difference,
        },
    }
    snn = SNN(network=folded, preprocessing=data.preprocessing, manifest=manifest)
    return snn.prepare(data.calibration.batch(limit=min(PREPARE_SAMPLES, len(data.calibration))).to(device))


def spiking_network(
    spec: ModelSpec, make_neuron: Callable[[], Neuron], input_shape: tuple[int, ...], *, width: float = 1.0
) -> tuple[SpikingNetwork, dict[str, Any]]:
    """A spiking network with random weights and live normalisation, and the record of what it is.

    Args:
        spec: as the model of ``train_direct``; classes must be given.
        make_neuron: makes one neuron; called once a site.
        input_shape: ``(C, H, W)``.
        width: as for ``train_direct``.

    Raises:
        ModelError, UnsupportedError, ValueError: as ``train_direct``.
    """
    example = torch.zeros(2, *input_shape)
    if spec.name.startswith("spiking_"):
        _refuse_options(spec)
        if len(input_shape) != 3:
            raise ModelError(f"{spec.name} takes images [C, H, W], got samples {list(input_shape)}: name another model")
        channels, height, side = input_shape
        module = build_spiking_model(
            spec.name,
            make_neuron,
            in_chans=channels,
            num_classes=spec.num_classes or 2,
            image_size=(height, side),
            width=width,
        )
        record = {"name": spec.name, "width": width, "num_classes": spec.num_classes, "in_chans": channels}
        return _freeze_neurons(capture(module.train(), example).train()), record
    if width != 1.0:
        raise ValueError(f"width is for {', '.join(MODELS)}; give {spec.name} its own options with --model-kwargs")
    check_name(spec.name, also=MODELS)
    loaded = build_model(spec, input_shape)
    return _freeze_neurons(with_neurons(loaded.module, example, make_neuron)), loaded.record


def _refuse_options(spec: ModelSpec) -> None:
    """Raises ModelArgumentError for what the models of ``seenn.models`` do not take."""
    options = {
        "--model-kwargs": spec.kwargs,
        "--stem": spec.stem != "auto",
        "--pretrained": spec.pretrained,
        "--use-ema": spec.ema,
        "--output-name": spec.output,
        "--classes": spec.classes,
    }
    if extra := [option for option, value in options.items() if value]:
        raise ModelArgumentError(f"{spec.name} takes no {', '.join(extra)}: leave it out; --width widens its layers")


def with_neurons(model: nn.Module, example: Tensor, make_neuron: Callable[[], Neuron]) -> SpikingNetwork:
    """``model`` with a neuron of its own at every activation call, its weights and normalisation as they are.

    A softmax or a sigmoid at its end is left out, as the loss takes it.

    The network shares the model's parameters. Normalisation stays in it, in training mode, so that it learns;
    ``fold_normalisation`` folds it afterwards. Max pooling acts on the spikes of each step.

    Args:
        model: takes ``[B, C, H, W]`` and returns logits ``[B, K]``.
        example: a batch of images, for shapes.
        make_neuron: makes one neuron; called once a site.

    Raises:
        UnsupportedError: lists every call that cannot be expressed, or there is no activation.
        ModelError: the model holds neurons already.
    """
    refuse_neurons(model)
    found = capture_graph(model.train(), example)
    graph, head, left_out = without_head(found.checked(strict=False), example.shape[1:])
    found.checked(strict=True, left_out=left_out)
    if head is not None:
        log.warning(LEFT_OUT, head)
    neurons = {site: make_neuron() for site in activations_of(graph)}
    return SpikingNetwork(graph.replace(neurons), tuple(example.shape[1:])).train()


def _freeze_neurons(network: SpikingNetwork) -> SpikingNetwork:
    """Thresholds and initial membranes stay as they are: weights and normalisation learn what matters of them."""
    for site in network.sites:
        network.graph[site].op.requires_grad_(False)
    return network


def prepare_splits(splits: DataSplits, direct: DirectConfig) -> DataSplits:
    """The splits as the training wants them: brightness from 0 to 1 for Poisson spikes, else as they are.

    Raises:
        DataError: the splits are recordings of events, and of another T or to be encoded again.
    """
    if splits.frames is not None and (direct.encoding is not None or splits.frames != direct.timesteps):
        raise DataError(
            f"{splits.spec} comes as {splits.frames} frames of events, got {direct.timesteps} timesteps"
            f"{' of Poisson spikes' if direct.encoding is not None else ''}: one frame is one timestep; give "
            f"--timesteps {splits.frames} and no encoding"
        )
    if direct.encoding is None:
        return splits
    p = splits.preprocessing
    return splits.with_preprocessing(Stated(mean=(0.0,), std=(1.0,)).over(p))


def fold_normalisation(network: SpikingNetwork, example: Tensor, timesteps: int) -> tuple[SpikingNetwork, float]:
    """The trained network with its normalisation folded, verified in float64; ``(network, relative difference)``.

    Args:
        network: as it was trained.
        example: images ``[B, C, H, W]`` or sequences ``[T, B, C, H, W]`` to compare on.
        timesteps: T.

    Raises:
        ConversionError: the outputs of some step differ by more than 1e-9 of the largest.
    """
    source = copy.deepcopy(network).cpu().double().eval()
    folded = SpikingNetwork(fold_batch_norm(source.graph, network.input_shape), network.input_shape).eval()
    difference = verify_equivalent(
        lambda x: source.unroll(x, timesteps),
        lambda x: folded.unroll(x, timesteps),
        example.detach().cpu().double(),
        what="the network with its normalisation folded",
    )
    return folded.float().requires_grad_(False), difference
