"""Confidence intervals: how far a figure measured on N samples can be trusted."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from torch import Tensor

from seenn.metrics.checks import check_finite, check_fraction


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval ``(low, high)`` for a proportion such as an accuracy::

        (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),   p = successes/n

    Wilson, JASA 1927. Unlike the normal interval it stays inside ``[0, 1]`` and is not empty at p = 1.

    Raises:
        ValueError: ``n < 1``, ``successes`` outside ``0..n``, ``confidence`` outside ``(0, 1)``.
    """
    where = "wilson_interval"
    check_fraction(where, "confidence", confidence)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{where}: got {successes} successes of n = {n}; expected n >= 1 and 0 <= successes <= n")
    p = successes / n
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = p + z * z / (2 * n)
    half_width = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half_width) / scale, (centre + half_width) / scale
    # 0 <= low <= p <= high <= 1 holds exactly, with low = 0 at p = 0 and high = 1 at p = 1, but for rounding.
    return max(0.0, min(p, low)), min(1.0, max(p, high))


def bootstrap_mean_interval(
    values: Tensor, *, seed: int, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval ``(low, high)`` for the mean of ``values`` ``[N]``, in their unit.

    Efron, Annals of Statistics 1979. The same seed gives the same interval.

    Raises:
        ValueError: no values, not a vector, NaN or infinite values, ``confidence`` outside ``(0, 1)``,
            ``resamples < 1``.
    """
    where = "bootstrap_mean_interval"
    check_fraction(where, "confidence", confidence)
    if resamples < 1:
        raise ValueError(f"{where}: resamples is {resamples}; expected at least 1")
    if values.dim() != 1 or values.numel() == 0:
        raise ValueError(f"{where}: values are {list(values.shape)}; expected [N], at least one value")
    check_finite(where, "values", values)
    sample = values.detach().double().cpu().numpy()
    generator = np.random.default_rng(seed)
    n = len(sample)
    # One resample at a time: memory stays at N whatever the number of resamples.
    means = [sample[generator.integers(n, size=n)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
