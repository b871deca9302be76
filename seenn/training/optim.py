"""How weights move: SGD or AdamW, linear warm-up, then a cosine to zero; and their moving average."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from seenn.errors import TrainingError

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move. ``lr`` is the peak of the schedule."""

    opt: str = "sgd"  # "sgd" (Nesterov) or "adamw"
    lr: float = 0.1
    weight_decay: float = 5e-4  # matrices and kernels only: biases, norm scales and thresholds are left alone
    momentum: float = 0.9  # of SGD; in [0, 1)
    warmup_fraction: float = 0.2  # of all steps, in [0, 1)

    def __post_init__(self) -> None:
        if self.opt not in OPTIMIZERS:
            raise ValueError(f"opt must be one of {', '.join(OPTIMIZERS)}, got {self.opt!r}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay}")
        for name in ("momentum", "warmup_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")

    def lr_at(self, step: int, total_steps: int) -> float:
        """The learning rate of step ``step`` (from 0): up linearly to ``lr``, then by a cosine towards 0.

        With w warm-up steps out of n: lr·(i + 1)/w for i < w, else lr·(1 + cos(π (i − w)/(n − w)))/2.
        """
        warmup = round(total_steps * self.warmup_fraction)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total_steps - warmup))))


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser over the parameters that require a gradient, in two groups: decayed and not.

    Raises:
        TrainingError: there are none.
    """
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("there is nothing to train: no parameter of the model requires a gradient")
    if config.opt == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``module`` whose weights follow it: w̄ ← d·w̄ + (1 − d)·w, d = min(decay, (1 + n)/(10 + n)).

    n counts the steps, so that the random start is forgotten soon. Running statistics are averaged alike.
    """

    def follow(average: Tensor, new: Tensor, steps: Tensor | int) -> Tensor:
        return average + (1 - min(decay, (1 + int(steps)) / (10 + int(steps)))) * (new - average)

    copied = AveragedModel(module, avg_fn=follow, use_buffers=True)
    copied.requires_grad_(False).eval()
    return copied
