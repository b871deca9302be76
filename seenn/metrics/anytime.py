"""How early the answers of a network are right, whatever rule stops it."""

from __future__ import annotations

from torch import Tensor

from seenn.metrics.checks import check_correct


def average_exit_time(correct: Tensor) -> float:
    """AET of SEENN (Li et al., NeurIPS 2023), in steps::

        AET = (1/N) [sum_t t (|C_t| - |C_{t-1}|) + T (N - |C_T|)],   |C_0| = 0,

    where ``C_t`` holds the samples that are right with t steps. Only the *sizes* of the ``C_t`` enter: a
    sample that is right early and wrong later counts against the network. Never below :func:`oracle_exit_time`.

    Args:
        correct: bool ``[T, N]``, from :func:`~seenn.metrics.correct_per_timestep`.

    Raises:
        ValueError: ``correct`` is empty, or not a boolean ``[T, N]``.
    """
    check_correct("average_exit_time", correct)
    timesteps, samples = correct.shape
    return (timesteps * samples - int(correct[:-1].sum())) / samples  # T - (1/N) sum_{t<T} |C_t|


def oracle_exit_time(correct: Tensor) -> float:
    """Mean of the first t at which a sample is right, T if it never is, in steps.

    What a rule that knows the labels would spend; argument and errors are those of :func:`average_exit_time`.
    """
    check_correct("oracle_exit_time", correct)
    return average_exit_time(correct.long().cummax(dim=0).values.bool())
