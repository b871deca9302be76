"""Fine-tuning a spiking network with its exits in the loop: what ``seenn finetune`` runs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron
from seenn.core.ops.arguments import integer
from seenn.data import DataSplits
from seenn.device import recording_gradients
from seenn.errors import TrainingError
from seenn.training.augment import Augment
from seenn.training.config import TrainConfig
from seenn.training.direct import DirectConfig, OverTime, at_exits, summed
from seenn.training.loop import FitOptions, TrainingResult, accuracies, fit, refuse_sequences
from seenn.training.losses import imitating
from seenn.training.optim import OptimConfig
from seenn.training.positive import positive_thresholds
from seenn.version import versions

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from seenn.snn import SNN

SEVERAL_SPIKES_LR = 0.004  # peak rate where neurons may fire more than once in a step


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a network learns to answer early.

    The loss is ``Σ_t w_t · [(1 − d)·CE(S_t/t, y) + d·CE(S_t/t, softmax(teacher))]`` over t = 1 … T, with S_t the
    summed logits and w_t ∝ t^−early. The teacher is the network's own analog twin before training.
    """

    timesteps: int = 2  # T
    early: float = 1.0  # 0 weighs all steps alike, more prefers early ones
    distil: float = 0.5  # d, in [0, 1]
    heads: bool = False  # train them too: the loss is the mean of those of all exits in a step
    save_memory: bool = False  # recompute instead of remembering every step
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=1, optim=OptimConfig(lr=0.05)))

    def __post_init__(self) -> None:
        integer("timesteps", self.timesteps, low=1)
        if not 0 <= self.early <= 16:
            raise ValueError(f"early must be in [0, 16], got {self.early}")
        if not 0 <= self.distil <= 1:
            raise ValueError(f"distil must be in [0, 1], got {self.distil}")

    def weights(self) -> Tensor:
        """w_t for t = 1 … T; they add up to 1."""
        weights = torch.arange(1, self.timesteps + 1, dtype=torch.float32) ** -self.early
        return weights / weights.sum()

    def to_record(self) -> dict[str, Any]:
        """What determines the outcome, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "save_memory"}


def exit_aware_loss(
    logits_mean: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    teacher: Tensor | None = None,
    distil: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy after every step, weighted; a scalar.

    Args:
        logits_mean: after each step, ``[T, B, K]``.
        labels: classes ``[B]``, or probabilities ``[B, K]``.
        weights: w_t, ``[T]``.
        teacher: logits to be imitated, ``[B, K]``.
        distil: the teacher's share d of the loss; the labels have the rest.
        label_smoothing: of the labels' part.
    """
    total = logits_mean.new_zeros(())
    for weight, logits in zip(weights, logits_mean, strict=True):
        total = total + weight * imitating(logits, labels, teacher, distil=distil, label_smoothing=label_smoothing)
    return total


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """The trained network and how it got there; accuracies are of the calibration split."""

    network: SpikingNetwork
    training: TrainingResult
    before: tuple[float, ...]  # accuracy after each step, before training
    after: tuple[float, ...]
    twin: float | None  # accuracy of the analog twin before training; None: neurons that leak have none


@recording_gradients()
def finetune(
    network: SpikingNetwork,
    splits: DataSplits,
    config: FinetuneConfig,
    **options: Unpack[FitOptions],
) -> Finetuned:
    """Trains a copy of ``network`` with surrogate gradients: weights, thresholds and initial membranes.

    Thresholds learn as logarithms, so that they stay positive. The epoch that is kept has the best accuracy on
    the calibration split, averaged over the steps with the weights of the loss.

    Raises:
        TrainingError: the network has no analog twin, and ``config.distil`` wants its answers; or the data are
            sequences of frames.
        DataError, TrainingError, CheckpointError: see :func:`seenn.training.fit`.
    """
    refuse_sequences(splits, "fine-tuning", "train on them with train-direct")
    if config.heads != bool(network.graph.heads):
        advice = ("has none: add them first, with seenn add-heads", "has some, which would fit no more: give --heads")
        raise TrainingError(
            f"heads are {'' if config.heads else 'not '}to be trained, and the network {advice[not config.heads]}"
        )
    device, limit = options.get("device", "cpu"), config.train.validation_images
    network = copy.deepcopy(network).to(device)
    teacher = _twin(network, config.distil)
    network.requires_grad_(True)
    for node in network.graph:
        if isinstance(node.op, Neuron):
            node.op.v_init = nn.Parameter(node.op.v_init.detach().expand_as(node.op.v_threshold).clone())
    direct = DirectConfig(timesteps=config.timesteps, save_memory=config.save_memory)
    unrolled = OverTime(network, direct, heads=config.heads)
    weights = config.weights().to(device)
    t = torch.arange(1, config.timesteps + 1, device=device).view(-1, 1, 1)

    def measure(module: nn.Module) -> tuple[float, ...]:
        return accuracies(module, splits.calibration, summed, limit=limit, device=device)

    def loss_fn(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        with torch.no_grad():
            answers = teacher(batch.inputs) if teacher is not None and config.distil else None
        losses = [
            exit_aware_loss(
                logits_mean,
                batch.known_labels,
                weights,
                teacher=answers,
                distil=config.distil,
                label_smoothing=config.train.label_smoothing,
            )
            for logits_mean in at_exits(module, batch) / t
        ]
        return torch.stack(losses).mean()

    def validate(module: nn.Module) -> float:
        return float(torch.tensor(measure(module)) @ config.weights())

    before = measure(unrolled)
    with positive_thresholds(unrolled):
        training = fit(unrolled, loss_fn, splits, config.train, validate=validate, **options)
    network.requires_grad_(False).eval()
    twin = None if teacher is None else accuracies(teacher, splits.calibration, limit=limit, device=device)[0]
    after = measure(unrolled)
    if after[-1] < before[-1]:
        log.warning(
            "fine-tuning lost accuracy: %.2f %% after %d steps, %.2f %% before it; train longer, or at a lower rate",
            100 * after[-1],
            len(after),
            100 * before[-1],
        )
    return Finetuned(network=network, training=training, before=before, after=after, twin=twin)


def _twin(network: SpikingNetwork, distil: float) -> nn.Module | None:
    if network.has_analog:
        twin = copy.deepcopy(network.analog()).requires_grad_(False).eval()
        return twin.to(memory_format=torch.channels_last)
    if distil:
        raise TrainingError(
            f"this network's neurons leak, so that it has no analog twin to imitate, and distil is {distil:g}: "
            "learn from the labels alone, with --distil 0"
        )
    return None


def finetuned_snn(
    source: SNN, splits: DataSplits, config: FinetuneConfig, result: Finetuned, *, file: Mapping[str, Any] | None = None
) -> SNN:
    """The trained network, with what it was made from; without exit policy and engines' sections, which fit no more.

    Args:
        source: what was trained on.
        file: which file that was, for the manifest.
    """
    moved = {key: source.manifest[key] for key in ("timesteps", "check", "per_site") if key in source.manifest}
    manifest = {key: value for key, value in source.manifest.items() if key not in ("check", "per_site", "exit")} | {
        "timesteps": config.timesteps,
        "data": splits.manifest(),
        "finetune": {
            "config": config.to_record(),
            "from": {**(file or {}), **moved},
            "split": "calibration",
            "samples": min(config.train.validation_images or len(splits.calibration), len(splits.calibration)),
            "accuracy_per_timestep_before": list(result.before),
            "accuracy_per_timestep": list(result.after),
            "twin_accuracy_before": result.twin,
            "epoch": result.training.best.epoch,
        },
        "versions": versions(),
    }
    return replace(source, network=result.network, manifest=manifest, policy=None, sections={})


def default_train_config(splits: DataSplits, network: SpikingNetwork) -> TrainConfig:
    """Fine-tuning's defaults for these images and neurons.

    A neuron of several spikes passes gradients over its whole range, a binary one only near its threshold: at rates
    that the one learns with, trainings of the other have diverged.
    """
    base = FinetuneConfig().train
    augment = Augment.suggest(splits)
    if any(getattr(network.graph[site].op, "max_spikes", 1) > 1 for site in network.sites):
        base = replace(base, optim=replace(base.optim, lr=SEVERAL_SPIKES_LR))
    return replace(base, augment=augment)
