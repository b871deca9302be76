"""Dynamic Confidence: softmax confidence with a temperature fitted for each timestep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.exits.policy import register_policy
from seenn.exits.scored import ProbabilityExit, accumulated, at_timestep, numbers

_LOG_RANGE = (-7.0, 7.0)  # temperatures from 1/1097 to 1097
_GOLDEN = (5**0.5 - 1) / 2


@register_policy("scaled")
@dataclass(frozen=True, kw_only=True)
class ScaledConfidenceExit(ProbabilityExit):
    """Dynamic Confidence (Li et al., ICCV 2023): stop once ``max softmax(S_t / (t·α_t))`` exceeds ``threshold``.

    The paper has one temperature; here each timestep has its own, so that a probability means the same at
    every t.
    """

    learns: ClassVar[bool] = True
    temperatures: tuple[float, ...] = (1.0,)  # α_t for t = 1, 2, …; one holds for every t

    def __post_init__(self) -> None:
        super().__post_init__()
        values = numbers("temperatures", self.temperatures)
        values = values if isinstance(values, tuple) else (values,)
        if min(values) <= 0.0:
            raise ValueError(f"temperatures must be positive, got {min(values)}")
        object.__setattr__(self, "temperatures", values)

    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return self.confidence(t, logits_sum), state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        mean = accumulated(t, logits_sum, "mean")
        if len(self.temperatures) == 1:
            return (mean / self.temperatures[0]).softmax(-1).amax(-1)
        return (mean / at_timestep(self.temperatures, t).to(mean.dtype).unsqueeze(-1)).softmax(-1).amax(-1)

    def fitted(self, logits_sum: Tensor, labels: Tensor) -> Self:
        """With the temperatures that minimise the cross-entropy at each of the T steps."""
        means = [logits_sum[t] / (t + 1) for t in range(len(logits_sum))]
        return replace(self, temperatures=tuple(fit_temperature(mean, labels) for mean in means))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """``argmin_α mean CE(logits / α, labels)`` for logits ``[N, K]``, by golden-section search over log α.

    The loss is convex in 1/α, hence has one valley over log α. Where it has no minimum inside [1/1097, 1097]
    (every sample right, or the logits worse than none), α is the bound that it falls towards. Deterministic.
    """
    logits = logits.double()

    def loss(log_temperature: float) -> float:
        scaled = logits * torch.tensor(-log_temperature).double().exp()
        return float(torch.nn.functional.cross_entropy(scaled, labels))

    low, high = _LOG_RANGE
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-5:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return float(torch.tensor((low + high) / 2).double().exp())
