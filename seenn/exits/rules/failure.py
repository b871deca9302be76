"""Failure prediction: stop where going on is not expected to help."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ProbabilityExit, Threshold
from seenn.exits.scores import accumulated, normalized_entropy, numbers_per_timestep, top_two_gap

FEATURES = ("one", "confidence", "gap", "entropy", "confidence_slope", "gap_slope", "entropy_slope", "1/t")
_LARGEST_GAP = 1e6  # of one class only, whose gap is infinite


@register_policy("failure")
@dataclass(frozen=True, kw_only=True)
class FailurePredictionExit(ProbabilityExit):
    """Stop once ``1 - P(this answer is wrong, and the one at T right)`` exceeds ``threshold``.

    After Kubaty et al. 2026 ('Rethinking calibration for early-exit networks'): what matters is not whether
    the answer is wrong but whether going on would help. P is logistic in ``FEATURES``: top probability and
    normalised entropy of softmax(S_t / t), top-2 gap of S_t, their change since the last exit point (0 at
    the first), and 1/t.
    """

    summary: ClassVar[str] = "going on is not expected to put the answer right"
    learned: ClassVar[tuple[str, ...]] = ("coefficients",)
    threshold: Threshold = 0.95
    coefficients: tuple[float, ...] = (0.0, -4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # one per feature

    def __post_init__(self) -> None:
        super().__post_init__()
        values = numbers_per_timestep("coefficients", self.coefficients)
        if len(values) != len(FEATURES):
            raise ValueError(f"coefficients are {len(FEATURES)} numbers, of {', '.join(FEATURES)}; got {values}")
        object.__setattr__(self, "coefficients", values)

    def start(self, inputs: Tensor) -> State:
        return (torch.zeros(inputs.shape[0], 3, dtype=inputs.dtype, device=inputs.device),)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.features(progress, logits_sum, state)
        weights = torch.tensor(self.coefficients, dtype=features.dtype, device=features.device)
        return (-(features * weights).sum(-1)).sigmoid(), state

    def features(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        """``[B, 8]`` in the order of ``FEATURES``, and the new state: the three levels, for the slopes."""
        log_probabilities = accumulated(progress.t, logits_sum, "mean").log_softmax(-1)
        probabilities = log_probabilities.exp()
        gap = top_two_gap(logits_sum).clamp(max=_LARGEST_GAP)
        levels = torch.stack([probabilities.amax(-1), gap, normalized_entropy(log_probabilities)], dim=-1)
        slopes = torch.where((progress.point == 1).unsqueeze(-1), 0.0, levels - state[0])
        inverse = progress.t.to(levels.dtype).reciprocal().unsqueeze(-1)
        return torch.cat([torch.ones_like(inverse), levels, slopes, inverse], dim=-1), (levels,)

    def fitted(self, run: CachedRun) -> Self:
        """With coefficients fitted on every exit point but the last: right at T, and wrong now.

        Raises:
            CalibrationError: going on never helped a sample, or always did.
        """
        points, n = run.logits_sum.shape[:2]
        correct = run.correct()
        helps = (correct[-1:] & ~correct[:-1]).flatten()
        if not 0 < int(helps.sum()) < len(helps):
            raise CalibrationError(
                f"going on helped in {int(helps.sum())} of {len(helps)} cases ({n} samples, {points} {run.unit}): "
                "failure prediction needs both kinds to learn from; hold out more, or use --policy confidence"
            )
        state, rows = self.start(run.logits_sum.new_zeros(n, 0)), []
        for progress, logits_sum in zip(run.progress, run.logits_sum[:-1], strict=False):
            features, state = self.features(progress, logits_sum, state)
            rows.append(features)
        return replace(self, coefficients=tuple(fit_logistic(torch.cat(rows), helps).tolist()))


def fit_logistic(features: Tensor, labels: Tensor) -> Tensor:
    """``argmin_w Σ log(1 + exp(∓ w·x)) + 1/2 ‖w‖²``, float64 ``[F]``, for features ``[N, F]`` and labels bool ``[N]``.

    Strictly convex, so the minimum is unique and the result deterministic.

    Raises:
        CalibrationError: no convergence: features of wildly different scale.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(fit_intercept=False, solver="newton-cholesky", tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            model.fit(features.double().numpy(), labels.numpy())
        except Warning as error:
            raise CalibrationError(
                f"the logistic model of {len(labels)} cases did not converge: {error}; use another rule"
            ) from error
    return torch.from_numpy(model.coef_[0])
