"""One way to calibrate any rule on a cached run."""

from __future__ import annotations

from typing import Any
from warnings import warn

from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.calibration.result import ExitCalibration, Policy
from seenn.exits.calibration.target import ExitTarget, Guarantee
from seenn.exits.policy import ExitPolicy
from seenn.exits.progress import cost_of_steps


def find_exit(
    run: CachedRun,
    rule: ExitPolicy,
    *,
    state: State | None = None,
    max_accuracy_drop: float | None = None,
    target_timesteps: float | None = None,
    target_energy: float | None = None,
    confidence: float | None = None,
    guarantee: Guarantee | None = None,
) -> ExitCalibration[Any]:
    """The rule that meets its target on ``run``, by its own way of calibration; without a target as it is.

    With ``max_accuracy_drop`` ε: the smallest mean cost among *all* thresholds that keep the accuracy at exit at or
    above the accuracy at T minus ε. With ``target_timesteps`` or ``target_energy``: the highest accuracy within that
    mean. Costs include initial steps, energies what the rule's own network takes.

    Args:
        run: one pass over the exit split.
        rule: with any threshold.
        state: what ``rule.start`` said about the run's inputs; None: a rule that looks at logits only.
        max_accuracy_drop, target_timesteps, target_energy, confidence, guarantee: see ``ExitTarget``.

    Raises:
        ValueError: several targets, one out of range, or one that the rule cannot have.
        CalibrationError: a rule without a threshold, unusable data, or a target that no threshold meets; the message
            names the nearest.
    """
    target = ExitTarget(
        max_accuracy_drop=max_accuracy_drop,
        target_timesteps=target_timesteps,
        target_energy=target_energy,
        confidence=confidence,
        guarantee="marginal" if guarantee is None else guarantee,
    )
    calibrate = getattr(rule, "calibrate", None)
    if calibrate is None:
        raise CalibrationError(
            f"the {rule.kind} policy has no threshold to calibrate: derive it from seenn.ThresholdExit, or store it "
            "as it is with seenn.save"
        )
    if target_energy is not None:
        run.energy_with(rule)
    _check_exit_split(run)
    found: ExitCalibration[Any] = calibrate(run.of(rule, state), target)
    return found


def calibrate_exit(
    logits_sum: Tensor,
    labels: Tensor,
    policy: Policy,
    *,
    energy_pj: Tensor | None = None,
    cost: Tensor | None = None,
    state: State | None = None,
    **target: Any,
) -> ExitCalibration[Policy]:
    """:func:`find_exit` on logits ``[T, N, K]`` and labels ``[N]``; ``energy_pj`` ``[T, N]`` is the network's alone."""
    cost = cost_of_steps(len(logits_sum)) if cost is None else cost
    run = CachedRun(logits_sum=logits_sum, labels=labels, energy_pj=energy_pj, cost=cost)
    return find_exit(run, policy, state=state, **target)


def certify_exit(
    logits_sum: Tensor,
    labels: Tensor,
    policy: Policy,
    *,
    max_accuracy_drop: float,
    confidence: float,
    **arguments: Any,
) -> ExitCalibration[Policy]:
    """:func:`calibrate_exit` with a guarantee."""
    arguments |= {"max_accuracy_drop": max_accuracy_drop, "confidence": confidence}
    return calibrate_exit(logits_sum, labels, policy, **arguments)


def calibrate_confidence(
    logits_sum: Tensor, labels: Tensor, base: Policy, *, max_accuracy_drop: float | None = None
) -> ExitCalibration[Policy]:
    """Deprecated: ``calibrate_exit``."""
    warn("calibrate_confidence is calibrate_exit now", DeprecationWarning, stacklevel=2)
    return calibrate_exit(logits_sum, labels, base, max_accuracy_drop=max_accuracy_drop)


def _check_exit_split(run: CachedRun) -> None:
    """Refuses what no threshold can be chosen on."""
    classes = len(set(run.labels.tolist()))
    if classes < 2:
        raise CalibrationError(
            f"the exit split has {len(run)} images of {classes} classes; an exit threshold needs images of at least two"
        )
    if bad := int((~run.logits_sum.isfinite()).any(dim=2).any(dim=0).sum()):
        raise CalibrationError(
            f"the outputs of {bad} of {len(run)} images of the exit split are not finite: "
            "check the images for NaN and the network's weights"
        )
