"""How far confidence is from accuracy."""

from __future__ import annotations

import torch
from torch import Tensor


def expected_calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    """ECE: ``sum_b |B_b|/N * |accuracy(B_b) - mean confidence(B_b)|`` over equal-width bins ``(low, high]``.

    Guo et al., ICML 2017 (arXiv:1706.04599). 0 is perfect, 1 the worst.

    Args:
        confidence: top probability per sample, in ``[0, 1]``, ``[N]``.
        correct: whether the answer was right, bool ``[N]``.
        bins: number of bins.

    Raises:
        ValueError: shapes or types that do not fit, no samples, confidence outside ``[0, 1]``, bins < 1.
    """
    where = "expected_calibration_error"
    if bins < 1:
        raise ValueError(f"{where}: bins is {bins}; expected at least 1")
    if correct.dtype != torch.bool or correct.dim() != 1 or correct.shape != confidence.shape or not len(correct):
        raise ValueError(
            f"{where}: confidence is {list(confidence.shape)}, correct is {correct.dtype} "
            f"{list(correct.shape)}; expected [N] and torch.bool [N], at least one sample"
        )
    confidence = confidence.double()
    if bad := int((~((confidence >= 0) & (confidence <= 1))).sum()):
        raise ValueError(f"{where}: {bad} of {len(confidence)} confidences are NaN or outside [0, 1]")
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
    bin_of = torch.bucketize(confidence, edges[1:-1])
    # |B| * |accuracy - confidence| is the bin's |sum of (correct - confidence)|.
    gaps = confidence.new_zeros(bins).index_add_(0, bin_of, correct.double() - confidence)
    return float(gaps.abs().sum()) / len(confidence)
