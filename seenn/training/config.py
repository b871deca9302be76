"""What determines a training run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch

from seenn.batch import Batch
from seenn.training.augment import Augment
from seenn.training.optim import OptimConfig


class Transform(Protocol):
    """Augmentation beyond :class:`Augment`; a dataclass of JSON values, so that runs can record it."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A new batch, whose labels are classes ``[B]`` or probabilities ``[B, K]``."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run; with the same module and data, the whole outcome on a CPU."""

    epochs: float = 10  # passes over the train split; the last may be a part of one
    batch_size: int = 64  # over all processes
    optim: OptimConfig = field(default_factory=OptimConfig)
    label_smoothing: float = 0.05  # in [0, 1)
    augment: Augment = field(default_factory=Augment)
    transform: Transform | None = None  # applied after ``augment``
    ema: float | None = None  # decay of averaged weights, which are then what is validated and kept; in (0, 1)
    amp: bool = False  # bfloat16 autocast
    patience: int | None = None  # epochs without a better validation before training stops; None: all are run
    validation_images: int | None = None  # the first so many of the calibration split; None: all
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs > 0):
            raise ValueError(f"epochs must be positive and finite, got {self.epochs}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must be in (0, 1), got {self.ema}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {self.patience}")
        if self.validation_images is not None and self.validation_images < 1:
            raise ValueError(f"validation_images must be at least 1, got {self.validation_images}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    def to_record(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)
