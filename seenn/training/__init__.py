"""Training: one loop, and the trainings built on it."""

from seenn.training.ann import train_ann
from seenn.training.augment import Augment
from seenn.training.config import TrainConfig, Transform
from seenn.training.direct import DirectConfig, OverTime, train_direct
from seenn.training.finetune import FinetuneConfig, Finetuned, exit_aware_loss, finetune, finetuned_snn
from seenn.training.loop import FitOptions, LossFn, TrainingResult, accuracies, fit
from seenn.training.losses import LOSSES, CumulativeLoss, LossOverTime, MeanLoss, TETLoss
from seenn.training.optim import OptimConfig, build_optimizer
from seenn.training.policy import PolicyConfig, PolicyResult, policy_loss, train_policy
from seenn.training.positive import positive_thresholds
from seenn.training.resnet8 import ResNet8
from seenn.training.run import Run
from seenn.training.state import EpochReport

__all__ = [
    "LOSSES",
    "Augment",
    "CumulativeLoss",
    "DirectConfig",
    "EpochReport",
    "FinetuneConfig",
    "Finetuned",
    "FitOptions",
    "LossFn",
    "LossOverTime",
    "MeanLoss",
    "OptimConfig",
    "OverTime",
    "PolicyConfig",
    "PolicyResult",
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
    "policy_loss",
    "positive_thresholds",
    "train_ann",
    "train_direct",
    "train_policy",
]
