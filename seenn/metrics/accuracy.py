"""Accuracy as a function of the number of timesteps spent."""

from __future__ import annotations

from torch import Tensor

from seenn.metrics.checks import check_integers


def correct_per_timestep(logits_sum: Tensor, labels: Tensor) -> Tensor:
    """Whether ``argmax_k logits_sum[t, n, k]`` is sample n's label: bool ``[T, N]``.

    Args:
        logits_sum: outputs summed up to and including each timestep, ``[T, N, K]``.
        labels: integers in ``[0, K)``, ``[N]``.

    Raises:
        ValueError: shapes that do not fit or are empty, NaN logits, labels outside ``[0, K)``.
    """
    where = "correct_per_timestep"
    check_integers(where, "labels", labels)
    if logits_sum.dim() != 3 or logits_sum.numel() == 0 or logits_sum.shape[1] != len(labels):
        raise ValueError(
            f"{where}: logits_sum is {list(logits_sum.shape)}; expected [T, N, K] with T, K >= 1 and "
            f"N = {len(labels)}, the number of labels"
        )
    if bad := int(logits_sum.isnan().any(dim=2).any(dim=0).sum()):
        raise ValueError(
            f"{where}: logits_sum is NaN for {bad} of {len(labels)} samples; expected numbers: a NaN has no "
            f"argmax, so look for non-finite weights or images first"
        )
    classes = logits_sum.shape[2]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"{where}: labels range from {low} to {high}; expected 0 to {classes - 1} for {classes} classes"
        )
    return logits_sum.argmax(dim=2) == labels


def accuracy_per_timestep(logits_sum: Tensor, labels: Tensor) -> Tensor:
    """Fraction of samples that are right with t timesteps: float64 ``[T]``; arguments and errors as in
    :func:`correct_per_timestep`.
    """
    return correct_per_timestep(logits_sum, labels).sum(dim=1).double() / len(labels)
