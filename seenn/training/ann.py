"""Training an ordinary classifier: what ``seenn train-ann`` runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seenn.data import DataSplits
from seenn.training.config import TrainConfig
from seenn.training.loop import EpochReport, TrainingResult, fit
from seenn.training.positive import positive_thresholds
from seenn.training.run import Run


def train_ann(
    module: nn.Module,
    splits: DataSplits,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    run: Run | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Trains ``module`` in place with cross-entropy; see :func:`seenn.training.fit` for the rest.

    Args:
        module: any classifier ``[B, C, H, W] -> [B, K]``. Thresholds of QCFS activations learn as logarithms,
            so that they stay positive.
    """

    def loss_fn(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(module(images), labels, label_smoothing=config.label_smoothing)

    with positive_thresholds(module):
        return fit(module, loss_fn, splits, config, device=device, run=run, on_epoch=on_epoch, on_step=on_step)
