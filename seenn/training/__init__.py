"""Training: one loop, and the trainings built on it."""

from seenn.training.ann import train_ann
from seenn.training.augment import Augment
from seenn.training.config import TrainConfig, Transform
from seenn.training.direct import DirectConfig, OverTime, train_direct
from seenn.training.finetune import FinetuneConfig, exit_aware_loss, finetune, finetuned_snn
from seenn.training.loop import LossFn, TrainingResult, accuracies, fit
from seenn.training.losses import LOSSES, CumulativeLoss, MeanLoss, TETLoss
from seenn.training.optim import OptimConfig, build_optimizer
from seenn.training.policy import PolicyConfig, train_policy
from seenn.training.resnet8 import ResNet8
from seenn.training.run import Run

__all__ = [
    "LOSSES",
    "Augment",
    "CumulativeLoss",
    "DirectConfig",
    "FinetuneConfig",
    "LossFn",
    "MeanLoss",
    "OptimConfig",
    "OverTime",
    "PolicyConfig",
    "ResNet8",
    "Run",
    "TETLoss",
    "TrainConfig",
    "TrainingResult",
    "Transform",
    "accuracies",
    "build_optimizer",
    "exit_aware_loss",
    "finetune",
    "finetuned_snn",
    "fit",
    "train_ann",
    "train_direct",
    "train_policy",
]
