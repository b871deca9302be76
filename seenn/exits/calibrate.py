"""Choosing an exit threshold on held-out data, exactly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.engines.reference import run_reference
from seenn.errors import CalibrationError
from seenn.exits.confidence import ConfidenceExit
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.metrics.accuracy import correct_per_timestep
from seenn.metrics.exit_curve import ExitCurve, exit_curve
from seenn.network import SpikingNetwork, evaluating


@dataclass(frozen=True, kw_only=True)
class ExitCalibration:
    """A policy and what it does on the data that it was calibrated on."""

    policy: ConfidenceExit
    samples: int
    accuracy: float  # at the exit
    full_accuracy: float  # at T
    mean_timesteps: float
    curve: ExitCurve


def collect_logits(
    network: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor]], timesteps: int
) -> tuple[Tensor, Tensor]:
    """One pass without early exit: ``logits_sum`` ``[T, N, K]`` and labels ``[N]``, on the CPU.

    Raises:
        CalibrationError: there are no images.
    """
    logits, labels = [], []
    with torch.no_grad(), evaluating(network):
        for images, target in batches:
            full = run_reference(
                network, images.to(network.device), FixedExit(), timesteps, keep_logits=True
            ).logits_sum_per_step
            assert full is not None
            logits.append(full.cpu())
            labels.append(target)
    if not logits:
        raise CalibrationError("there are no images to calibrate the exit on: got an empty split")
    return torch.cat(logits, dim=1), torch.cat(labels)


def confidence_scores(policy: ExitPolicy, logits_sum: Tensor) -> Tensor:
    """The policy's confidence for every sample after every step, ``[T, N]`` from ``[T, N, K]``."""
    n = logits_sum.shape[1]
    return torch.stack([policy.confidence(torch.full((n,), t + 1), s) for t, s in enumerate(logits_sum)])


def calibrate_confidence(
    logits_sum: Tensor, labels: Tensor, base: ConfidenceExit, *, max_accuracy_drop: float | None = None
) -> ExitCalibration:
    """SEENN-I on cached logits: ``base`` as given, or the cheapest threshold that keeps the accuracy.

    With ``max_accuracy_drop`` ε the threshold is the one with the smallest mean timesteps among *all* that
    keep the accuracy at exit at or above the accuracy at T minus ε, on these samples; candidates are the
    scores themselves, so nothing is missed between grid points.

    Args:
        logits_sum: ``[T, N, K]``, from ``collect_logits`` on the exit split.
        labels: ``[N]``.
        base: temperature and accumulation, and the threshold when there is no target.
        max_accuracy_drop: ε in [0, 1), as a fraction (0.005 is half a point).

    Raises:
        ValueError: ε outside [0, 1).
        CalibrationError: fewer than two classes or no samples; the answer would mean nothing.
    """
    if max_accuracy_drop is not None and not 0.0 <= max_accuracy_drop < 1.0:
        raise ValueError(f"max_accuracy_drop is a fraction in [0, 1), got {max_accuracy_drop}")
    classes = len(set(labels.tolist()))
    if classes < 2:
        raise CalibrationError(
            f"the exit split has {len(labels)} images of {classes} classes; "
            "an exit threshold needs images of at least two"
        )
    correct = correct_per_timestep(logits_sum, labels)
    scores = confidence_scores(base, logits_sum)
    curve = exit_curve(scores, correct)
    full_accuracy = float(correct[-1].double().mean())
    threshold = base.threshold
    if max_accuracy_drop is not None:
        # Accuracies are k/N: the allowance keeps «exactly ε below» within ε when floats round.
        index = curve.cheapest(full_accuracy - max_accuracy_drop - 1e-12)
        # A threshold below every score means «always stop at once»; policies want it above 0.
        threshold = min(1.0, max(float(curve.threshold[index]), torch.finfo(torch.float32).tiny))
    policy = ConfidenceExit(threshold=threshold, temperature=base.temperature, accumulation=base.accumulation)
    exit_timestep = replay(policy, logits_sum)
    columns = torch.arange(len(labels))
    return ExitCalibration(
        policy=policy,
        samples=len(labels),
        accuracy=float(correct[exit_timestep - 1, columns].double().mean()),
        full_accuracy=full_accuracy,
        mean_timesteps=float(exit_timestep.double().mean()),
        curve=curve,
    )


def replay(policy: ExitPolicy, logits_sum: Tensor) -> Tensor:
    """When each sample would stop, int64 ``[N]``, from logits cached for all T steps ``[T, N, K]``.

    For rules that look at logits only; ``start`` is given no images.
    """
    timesteps, n = logits_sum.shape[:2]
    exit_timestep = torch.full((n,), timesteps)
    running = torch.ones(n, dtype=torch.bool)
    state = policy.start(logits_sum.new_zeros(n, 0))
    for step in range(1, timesteps):
        stop, state = policy.stop(torch.full((n,), step), logits_sum[step - 1], state)
        exit_timestep[running & stop] = step
        running &= ~stop
    return exit_timestep
