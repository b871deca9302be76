"""Training an ordinary classifier: what ``seenn train-ann`` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seenn.data import DataSplits, Split
from seenn.errors import DataError
from seenn.training.augment import Augment
from seenn.training.loop import EpochReport, Step, best_of, epoch_seed, run_epochs
from seenn.training.optim import OptimConfig, build_optimizer, warmup_cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run; with the same module and data, the whole outcome on a CPU."""

    epochs: int = 10
    batch_size: int = 64
    optim: OptimConfig = field(default_factory=OptimConfig)
    label_smoothing: float = 0.05  # in [0, 1)
    augment: Augment = field(default_factory=Augment)
    amp: bool = False  # bfloat16 autocast
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    def to_record(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The trained module (best epoch's weights, eval mode) and how it got there."""

    module: nn.Module
    best: EpochReport
    epochs: tuple[EpochReport, ...]


def train_ann(
    module: nn.Module,
    splits: DataSplits,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Trains ``module`` in place with cross-entropy on the train split.

    The epoch that is kept is chosen on the *calibration* split; the exit and test splits are never looked
    at. The images of a last, incomplete batch are left out of an epoch; every epoch shuffles anew.

    Args:
        module: any classifier ``[B, C, H, W] -> [B, K]``.
        splits: the data.
        config: how to train.
        device: where.
        on_epoch: called after every epoch.
        on_step: called after every step with the steps done and the steps in all.

    Raises:
        DataError: a split that is needed is empty.
        TrainingError: the loss became NaN or infinite.
    """
    if empty := [name for name in ("train", "calibration") if not len(getattr(splits, name))]:
        raise DataError(f"the {' and the '.join(empty)} split is empty; training needs images in both")
    device = torch.device(device)
    module.to(device).to(memory_format=torch.channels_last)  # the faster layout for training on a CPU
    size = min(config.batch_size, len(splits.train))
    total_steps = config.epochs * (len(splits.train) // size)
    optimizer = build_optimizer(module, config.optim)
    schedule = warmup_cosine(optimizer, total_steps=total_steps, warmup_fraction=config.optim.warmup_fraction)

    def loss_fn(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(module(images), labels, label_smoothing=config.label_smoothing)

    step = Step(module=module, loss_fn=loss_fn, optimizer=optimizer, schedule=schedule, amp=config.amp)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in _shuffled(splits.train, size, config, epoch):
            yield images.to(device, memory_format=torch.channels_last), labels.to(device)
            if on_step is not None:  # resumed here once the step on this batch is done
                on_step(step.taken, total_steps)

    reports, best = run_epochs(
        step,
        batches,
        epochs=config.epochs,
        seed=config.seed,
        validate=lambda module: accuracy(module, splits.calibration, device=device),
        on_epoch=on_epoch,
    )
    module.to(memory_format=torch.contiguous_format).load_state_dict(best)
    return TrainingResult(module=module.eval(), best=best_of(reports), epochs=tuple(reports))


@torch.inference_mode()
def accuracy(module: nn.Module, split: Split, *, device: torch.device | str = "cpu", batch_size: int = 256) -> float:
    """The fraction of ``split`` that ``module`` labels correctly."""
    correct = 0
    for images, labels in split.batches(batch_size):
        correct += int((module(images.to(device)).argmax(-1).cpu() == labels).sum())
    return correct / len(split)


def _shuffled(split: Split, batch_size: int, config: TrainConfig, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(epoch_seed(config.seed, epoch))
    order = torch.randperm(len(split), generator=generator)
    order = order[: len(order) // batch_size * batch_size]
    for images, labels in split.batches(batch_size, order=order):
        yield config.augment(images, generator), labels
