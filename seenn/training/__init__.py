"""Training: a small engine (loop, optimiser, augmentation) and the ANN training built on it."""

from seenn.training.ann import TrainConfig, TrainingResult, train_ann
from seenn.training.augment import Augment
from seenn.training.loop import EpochReport, Step, run_epochs
from seenn.training.optim import OptimConfig, build_optimizer, warmup_cosine

__all__ = [
    "Augment",
    "EpochReport",
    "OptimConfig",
    "Step",
    "TrainConfig",
    "TrainingResult",
    "build_optimizer",
    "run_epochs",
    "train_ann",
    "warmup_cosine",
]
