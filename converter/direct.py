"""What `seenn train-direct` does around the training: build the network, and make a checkpoint of what was trained."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from converter.load import ModelSpec, build_model
from converter.passes import fold_batch_norm
from converter.spiking import with_neurons
from seenn.analysis.collect import collect_logits
from seenn.capture import capture
from seenn.checkpoint import Checkpoint
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron
from seenn.data import DataSplits
from seenn.errors import ConversionError, DataError, ModelError, did_you_mean
from seenn.metrics import accuracy_per_timestep
from seenn.models import MODELS, build_spiking_model
from seenn.rounded import with_rounding
from seenn.training import DirectConfig, TrainConfig, TrainingResult
from seenn.version import versions

_TOLERANCE = 1e-9  # relative to the largest output, in float64


def spiking_network(
    spec: ModelSpec, make_neuron: Callable[[], Neuron], input_shape: tuple[int, int, int], *, width: float = 1.0
) -> tuple[SpikingNetwork, dict[str, Any]]:
    """A spiking network with random weights and live normalisation, and the record of what it is.

    Args:
        spec: a model of ``seenn.models`` (``spiking_resnet19``), or any that ``converter.load`` builds, whose
            activations then become neurons. Classes and channels must be given.
        make_neuron: makes one neuron; called once a site.
        input_shape: ``(C, H, W)``.
        width: factor of the channels, for models of ``seenn.models`` only.

    Raises:
        ModelError: there is no such model, or the images are too small for it.
        UnsupportedError: lists every call that cannot be expressed.
        ValueError: ``width`` for a model that has none.
    """
    example = torch.zeros(2, *input_shape)
    if spec.name.startswith("spiking_"):
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
        return _frozen(capture(module.train(), example).train()), record
    if width != 1.0:
        raise ValueError(f"width is for {', '.join(MODELS)}; give {spec.name} its own options with --model-kwargs")
    try:
        loaded = build_model(spec, input_shape)
    except ModelError as error:
        near = did_you_mean(spec.name, MODELS) if "unknown" in str(error) else ""
        raise ModelError(f"{error}{near}") from error
    return _frozen(with_neurons(loaded.module, example, make_neuron)), loaded.record


def _frozen(network: SpikingNetwork) -> SpikingNetwork:
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
            f"{' of Poisson spikes' if direct.encoding is not None else ''}: one frame is one timestep, as it is"
        )
    if direct.encoding is None:
        return splits
    p = splits.preprocessing
    return splits.with_preprocessing(replace(p, mean=(0.0,) * p.channels, std=(1.0,) * p.channels))


def finish(network: SpikingNetwork, example: Tensor, timesteps: int) -> tuple[SpikingNetwork, float]:
    """The trained network with its normalisation folded, proven equal in float64; ``(network, relative difference)``.

    Args:
        network: as it was trained.
        example: images ``[B, C, H, W]`` or sequences ``[T, B, C, H, W]`` to compare on.
        timesteps: T.

    Raises:
        ConversionError: the outputs of some step differ by more than 1e-9 of the largest.
    """
    source = copy.deepcopy(network).cpu().double().eval()
    folded = SpikingNetwork(fold_batch_norm(source.graph, network.input_shape), network.input_shape).eval()
    example = example.detach().cpu().double()
    with torch.no_grad():
        expected, actual = source.unroll(example, timesteps), folded.unroll(example, timesteps)
    difference = float((expected - actual).abs().max() / expected.abs().max().clamp_min(1e-30))
    if not difference <= _TOLERANCE:
        raise ConversionError(
            f"folding normalisation changes the outputs by {difference:.1e} of the largest in float64 "
            f"(at most {_TOLERANCE:.0e} is allowed)"
        )
    return folded.float().requires_grad_(False), difference


@dataclass(frozen=True, kw_only=True)
class TrainedCheckpoint:
    """A checkpoint ready to be saved, with what is known about it."""

    checkpoint: Checkpoint
    accuracy_per_timestep: tuple[float, ...]  # on the exit split
    samples: int  # of the exit split that were run
    float64_difference: float  # between the trained and the folded network

    def to_json(self) -> dict[str, Any]:
        """What ``seenn train-direct --json`` prints, but for the training."""
        return {
            "accuracy_per_timestep": list(self.accuracy_per_timestep),
            "check_split": "exit",
            "check_samples": self.samples,
            "float64_difference": self.float64_difference,
            "sites": len(self.checkpoint.network.sites),
            "source": self.checkpoint.manifest["source"],
            "data": self.checkpoint.manifest["data"],
        }


def direct_checkpoint(
    network: SpikingNetwork,
    splits: DataSplits,
    result: TrainingResult,
    *,
    source: Mapping[str, Any],
    config: TrainConfig,
    direct: DirectConfig,
    check_images: int = 1000,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> TrainedCheckpoint:
    """Folds what was trained, runs it on the exit split, and records where it comes from.

    Args:
        network: trained in place by ``seenn.training.train_direct``.
        splits: what it was trained on.
        result: of the training.
        source: the model's record.
        config, direct: how it was trained.
        check_images: how many images of the exit split are run.
    """
    splits = splits.with_encoding(direct.encoding)
    example = next(splits.exit.batches(8, limit=8)).inputs
    folded, difference = finish(network, example, direct.timesteps)
    folded = folded.to(device)
    logits_sum, labels = collect_logits(folded, splits.exit.batches(64, limit=check_images), direct.timesteps)
    accuracy = tuple(accuracy_per_timestep(logits_sum, labels).tolist())
    manifest = {
        "source": dict(source),
        "data": splits.manifest(),
        "class_names": list(splits.class_names),
        "timesteps": direct.timesteps,
        "encoding": None if direct.encoding is None else direct.encoding.to_json(),
        "direct": {
            **direct.to_record(),
            "training": config.to_record(),
            "epoch": result.best.epoch,
            "validation_accuracy": result.best.accuracy,
        },
        "seed": seed,
        "versions": versions(),
        "check": {
            "split": "exit",
            "samples": len(labels),
            "accuracy_per_timestep": list(accuracy),
            "float64_difference": difference,
        },
    }
    made = Checkpoint(network=folded, preprocessing=splits.preprocessing, manifest=manifest)
    checkpoint = with_rounding(made, splits.calibration)
    return TrainedCheckpoint(
        checkpoint=checkpoint, accuracy_per_timestep=accuracy, samples=len(labels), float64_difference=difference
    )
