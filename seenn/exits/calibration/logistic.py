"""Logistic regression, fitted exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.errors import CalibrationError

_STEPS = 100


def fit_logistic(features: Tensor, labels: Tensor, *, penalty: float = 1.0) -> Tensor:
    """``argmin_w Σ log(1 + exp(∓ w·x)) + penalty/2 ‖w‖²``, float64 ``[F]``, by damped Newton steps.

    Strictly convex, so the minimum is unique and the result deterministic.

    Args:
        features: ``[N, F]``; include a column of ones for the intercept.
        labels: bool ``[N]``.
        penalty: L2, > 0.

    Raises:
        CalibrationError: no convergence: features of wildly different scale.
    """
    x, y = features.double(), labels.double()
    sign = 1 - 2 * y

    def loss(w: Tensor) -> Tensor:
        return torch.nn.functional.softplus(sign * (x @ w)).sum() + penalty / 2 * w.dot(w)

    w = x.new_zeros(x.shape[1])
    for _ in range(_STEPS):
        p = (x @ w).sigmoid()
        gradient = x.T @ (p - y) + penalty * w
        if float(gradient.norm()) <= 1e-9 * len(x):
            return w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty * torch.eye(len(w), dtype=x.dtype)
        step = torch.linalg.solve(hessian, gradient)
        rate, before = 1.0, loss(w)
        while rate > 1e-6 and float(loss(w - rate * step)) > float(before):
            rate /= 2
        w = w - rate * step
    raise CalibrationError(f"the logistic model of {len(x)} cases did not converge in {_STEPS} Newton steps")
