"""How early the answers of a network are right, whatever rule stops it."""

from __future__ import annotations

from torch import Tensor

from seenn.metrics.checks import check_correct


def average_exit_time(correct: Tensor) -> float:
    """AET of SEENN (Li et al., NeurIPS 2023), in steps::

        AET = (1/N) [sum_t t (|C_t| - |C_{t-1}|) + T (N - |C_T|)],   |C_0| = 0,

    where ``C_t`` holds the samples that are right with t steps. Only the *sizes* of the ``C_t`` enter: a
    sample that is right early and wrong later counts against the network. Summed by parts the equation is
    ``T - (1/N) sum_{t<T} |C_t|``, which is what is computed. Never below :func:`oracle_exit_time`, and equal
    to it where no sample that is right turns wrong before T.

    Args:
        correct: bool ``[T, N]``, from :func:`~seenn.metrics.correct_per_timestep`.

    Raises:
        ValueError: ``correct`` is empty, or not a boolean ``[T, N]``.
    """
    check_correct("average_exit_time", correct)
    return _steps_before(correct)


def oracle_exit_time(correct: Tensor) -> float:
    """Mean of the first t at which a sample is right, T if it never is, in steps.

    What a rule that knows the labels would spend: follows each *sample*, so what happens after its first
    right answer does not matter. (:func:`average_exit_time` follows the sizes of the right sets instead.)

    Args:
        correct: bool ``[T, N]``, from :func:`~seenn.metrics.correct_per_timestep`.

    Raises:
        ValueError: ``correct`` is empty, or not a boolean ``[T, N]``.
    """
    check_correct("oracle_exit_time", correct)
    return _steps_before(correct.long().cummax(dim=0).values)


def _steps_before(done: Tensor) -> float:
    """``T - (1/N) sum_{t<T} |done_t|``: a sample pays for every step before T at which it is not done."""
    timesteps, samples = done.shape
    return (timesteps * samples - int(done[:-1].sum())) / samples
