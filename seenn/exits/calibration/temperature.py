"""The temperature that makes probabilities honest."""

from __future__ import annotations

import torch
from torch import Tensor

_LOG_RANGE = (-7.0, 7.0)  # temperatures from 1/1097 to 1097
_GOLDEN = (5**0.5 - 1) / 2


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
