"""Dynamic Confidence: softmax confidence with a temperature fitted for each timestep."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ProbabilityExit
from seenn.exits.scores import accumulated, at_point, numbers_per_timestep

_LOG_RANGE = (-7.0, 7.0)  # temperatures from 1/1097 to 1097


@register_policy("scaled")
@dataclass(frozen=True, kw_only=True)
class ScaledConfidenceExit(ProbabilityExit):
    """Dynamic Confidence (Li et al., ICCV 2023): stop once ``max softmax(S_t / (t·α_t))`` exceeds ``threshold``.

    The paper has one temperature; here each timestep has its own, so that a probability means the same at
    every t.
    """

    summary: ClassVar[str] = "a calibrated probability is high, one temperature a timestep (Dynamic Confidence)"
    learned: ClassVar[tuple[str, ...]] = ("temperatures",)
    temperatures: tuple[float, ...] = (1.0,)  # α_t for t = 1, 2, … or every exit point; one holds for all

    def __post_init__(self) -> None:
        super().__post_init__()
        values = numbers_per_timestep("temperatures", self.temperatures)
        if min(values) <= 0.0:
            raise ValueError(f"temperatures must be positive, got {min(values)}")
        object.__setattr__(self, "temperatures", values)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return self.confidence(progress, logits_sum), state

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        mean = accumulated(progress.t, logits_sum, "mean")
        if len(self.temperatures) == 1:
            return (mean / self.temperatures[0]).softmax(-1).amax(-1)
        return (mean / at_point(self.temperatures, progress).to(mean.dtype).unsqueeze(-1)).softmax(-1).amax(-1)

    def fitted(self, run: CachedRun) -> Self:
        """With the temperatures that minimise the cross-entropy at each exit point."""
        means = run.logits_sum / run.t.to(run.logits_sum.dtype)[:, None, None]
        return replace(self, temperatures=tuple(fit_temperature(mean, run.labels) for mean in means))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """``argmin_α mean CE(logits / α, labels)`` for logits ``[N, K]``; deterministic.

    The loss is convex in 1/α, hence has one valley over log α. Where it has no minimum inside [1/1097, 1097]
    (every sample right, or the logits worse than none), α is the bound that it falls towards.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits * math.exp(-log_temperature), labels))

    return math.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method="bounded", options={"xatol": 1e-6}).x)
