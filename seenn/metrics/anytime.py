"""How early the answers of a network are right, whatever rule stops it."""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.metrics.checks import check_correct


def average_exit_time(correct: Tensor, cost: Tensor | None = None) -> float:
    """AET of SEENN (Li et al., NeurIPS 2023), in steps::

        AET = (1/N) [sum_t t (|C_t| - |C_{t-1}|) + T (N - |C_T|)],   |C_0| = 0,

    where ``C_t`` holds the samples that are right with t steps. Only the *sizes* of the ``C_t`` enter: a
    sample that is right early and wrong later counts against the network. Never below :func:`oracle_exit_time`.

    Args:
        correct: bool ``[T, N]``, from :func:`~seenn.metrics.correct_per_timestep`.
        cost: what stopping at each of the T points takes, rising ``[T]``, in place of t: the exits in depth of a
            network with heads, initial steps. None: 1 … T.

    Raises:
        ValueError: ``correct`` is empty, or not a boolean ``[T, N]``.
    """
    check_correct("average_exit_time", correct)
    points, samples = correct.shape
    spent = torch.arange(1, points + 1, dtype=torch.float64) if cost is None else cost.double()
    # T - (1/N) sum_{t<T} |C_t|, where a step from one point to the next takes 1
    return float(spent[-1] - (spent.diff() * correct[:-1].sum(1)).sum() / samples)


def oracle_exit_time(correct: Tensor, cost: Tensor | None = None) -> float:
    """Mean of the first t at which a sample is right, T if it never is, in steps.

    What a rule that knows the labels would spend; arguments and errors are those of :func:`average_exit_time`.
    """
    check_correct("oracle_exit_time", correct)
    return average_exit_time(correct.long().cummax(dim=0).values.bool(), cost)
