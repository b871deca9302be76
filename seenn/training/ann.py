"""Training an ordinary classifier: what ``seenn train-ann`` runs."""

from __future__ import annotations

import copy
from typing import Unpack

import torch
from torch import Tensor, nn

from seenn.batch import Batch
from seenn.capture.head import are_probabilities
from seenn.core.network import evaluating
from seenn.data import DataSplits
from seenn.errors import TrainingError
from seenn.training.config import TrainConfig
from seenn.training.loop import FitOptions, TrainingResult, fit, refuse_sequences
from seenn.training.losses import imitating
from seenn.training.positive import positive_thresholds


def train_ann(
    module: nn.Module,
    splits: DataSplits,
    config: TrainConfig,
    *,
    teacher: nn.Module | None = None,
    distil: float = 0.0,
    **options: Unpack[FitOptions],
) -> TrainingResult:
    """Trains ``module`` in place with cross-entropy; see :func:`seenn.training.fit` for the rest.

    Args:
        module: any classifier ``[B, C, H, W] -> [B, K]``. Thresholds of QCFS activations learn as logarithms,
            so that they stay positive.
        teacher: a trained classifier whose answers are imitated; left as it is, in evaluation mode.
        distil: the teacher's share of the loss, in [0, 1]; the labels have the rest.

    Raises:
        ValueError: ``distil`` out of range, or above 0 without a teacher.
        TrainingError: the data are sequences of frames, or the module gives probabilities, of which cross-entropy
            would take a softmax again.
    """
    refuse_sequences(splits, "an ANN", "train a spiking network on them with train-direct")
    if not 0.0 <= distil <= 1.0 or (distil and teacher is None):
        raise ValueError(f"distil must be in [0, 1], and 0 without a teacher, got {distil}")
    device = options.get("device", "cpu")
    with evaluating(module.to(device)), torch.no_grad():
        scores = module(splits.train.images(2).to(device))
    if are_probabilities(scores):
        raise TrainingError("the model ends in a softmax, which the loss takes itself: let it return the logits")
    judge = None
    if teacher is not None and distil:
        judge = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)

    def loss_fn(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        with torch.no_grad():
            answers = None if judge is None else judge(batch.inputs)
        scores = module(batch.inputs)
        return imitating(scores, batch.known_labels, answers, distil=distil, label_smoothing=config.label_smoothing)

    with positive_thresholds(module):
        return fit(module, loss_fn, splits, config, **options)
