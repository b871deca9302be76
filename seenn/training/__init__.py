"""Training: a small engine (loop, optimiser, augmentation) and the ANN training built on it."""

from seenn.training.ann import TrainConfig, TrainingResult, train_ann
from seenn.training.augment import Augment
from seenn.training.loop import EpochReport, Step, run_epochs
from seenn.training.optim import OptimConfig, build_optimizer, warmup_cosine
from seenn.training.policy import Answers, PolicyConfig, PolicyResult, policy_loss, train_policy
from seenn.training.resnet8 import ResNet8

__all__ = [
    "Answers",
    "Augment",
    "EpochReport",
    "OptimConfig",
    "PolicyConfig",
    "PolicyResult",
    "ResNet8",
    "Step",
    "TrainConfig",
    "TrainingResult",
    "build_optimizer",
    "policy_loss",
    "run_epochs",
    "train_ann",
    "train_policy",
    "warmup_cosine",
]
