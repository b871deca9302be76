"""Losses over time: what the outputs of every timestep, ``[T, B, K]``, are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


def imitating(
    scores: Tensor, labels: Tensor, teacher: Tensor | None, *, distil: float, label_smoothing: float = 0.0
) -> Tensor:
    """``(1 - d)·CE(scores, labels) + d·CE(scores, softmax(teacher))``, a scalar; without a teacher the first alone.

    Args:
        scores: ``[B, K]``.
        labels: classes ``[B]``, or probabilities ``[B, K]``.
        teacher: logits to be imitated, ``[B, K]``.
        distil: d, the teacher's share.
        label_smoothing: of the labels' part.
    """
    loss = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
    if teacher is None:
        return loss
    return (1 - distil) * loss + distil * F.cross_entropy(scores, teacher.softmax(-1))


#: A scalar, from outputs ``[T, B, K]`` and classes ``[B]`` or probabilities ``[B, K]``.
LossOverTime = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class _Smoothed:
    label_smoothing: float = 0.0  # in [0, 1)

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")

    def cross_entropy(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of scores ``[..., B, K]``, each against its image's label."""
        if scores.dim() == 3:
            labels = labels.repeat(len(scores), *[1] * (labels.dim() - 1))
            scores = scores.flatten(0, 1)
        return F.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class MeanLoss(_Smoothed):
    """``CE(mean_t o_t, y)``: only the answer after all T steps counts."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.cross_entropy(outputs.mean(0), labels)


@dataclass(frozen=True, kw_only=True)
class TETLoss(_Smoothed):
    """``(1 − λ)·mean_t CE(o_t, y) + λ·mean (o − φ)²``: every step is right by itself (Deng et al. 2022).

    λ = 1e-3 and φ = 1, the threshold, as in SEENN.
    """

    regularisation: float = 1e-3  # λ, in [0, 1)
    target: float = 1.0  # φ

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.regularisation < 1:
            raise ValueError(f"regularisation must be in [0, 1), got {self.regularisation}")

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        towards = (outputs - self.target).square().mean()
        return (1 - self.regularisation) * self.cross_entropy(outputs, labels) + self.regularisation * towards


@dataclass(frozen=True, kw_only=True)
class CumulativeLoss(_Smoothed):
    """``mean_t CE(S_t, y)`` with ``S_t = o_1 + … + o_t``: what an exit sees is right at every t, T included."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return self.cross_entropy(outputs.cumsum(0), labels)


#: By the names that the command line knows.
LOSSES: Mapping[str, Callable[..., LossOverTime]] = {"tet": TETLoss, "cumulative": CumulativeLoss, "mean": MeanLoss}
