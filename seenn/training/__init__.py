"""Training: one loop, and the trainings built on it."""

from seenn.training.ann import train_ann
from seenn.training.augment import Augment
from seenn.training.config import TrainConfig, Transform
from seenn.training.loop import EpochReport, LossFn, TrainingResult, accuracy, fit
from seenn.training.optim import OptimConfig, build_optimizer
from seenn.training.positive import positive_thresholds
from seenn.training.run import Run

__all__ = [
    "Augment",
    "EpochReport",
    "LossFn",
    "OptimConfig",
    "Run",
    "TrainConfig",
    "TrainingResult",
    "Transform",
    "accuracy",
    "build_optimizer",
    "fit",
    "positive_thresholds",
    "train_ann",
]
