"""One way to calibrate any rule on a cached run."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.calibration.target import ExitCalibration, ExitTarget, Policy


def find_exit(run: CachedRun, rule: Policy, *, state: State | None = None, **target: Any) -> ExitCalibration[Policy]:
    """The rule that meets its target on ``run``, by its own way of calibration; without a target as it is.

    With ``max_accuracy_drop`` ε: the smallest mean cost among *all* thresholds that keep the accuracy at exit at or
    above the accuracy at T minus ε. With ``target_timesteps`` or ``target_energy``: the highest accuracy within that
    mean. Accuracy is agreement with the answer after all T steps where ``risk`` is ``disagreement``: the labels do not
    matter then. Costs include initial steps, energies what the rule's own network takes. A guarantee is for samples of
    new groups: with a confidence it counts one sample of each group, and in expectation the mean of each.

    Args:
        run: one pass over the exit split.
        rule: with any threshold.
        state: what ``rule.start`` said about the run's inputs; None: a rule that looks at logits only.
        target: fields of ``ExitTarget``.

    Raises:
        ValueError: several targets, one out of range, or one that the rule cannot have.
        CalibrationError: a rule without a threshold, unusable data, or a target that no threshold meets; the message
            names the nearest.
    """
    asked = ExitTarget(**target)
    calibrate = getattr(rule, "calibrate", None)
    if calibrate is None:
        raise CalibrationError(
            f"the {rule.kind} policy has no threshold to calibrate: derive it from seenn.ThresholdExit, or store it "
            "as it is, with snn.with_policy"
        )
    if asked.risk == "disagreement":
        run = run.judged_by_itself()
    if asked.target_energy is not None:
        run.energy_with(rule)
    classes = len(set(run.labels.tolist()))
    if classes < 2:
        raise CalibrationError(
            f"the exit split has {len(run)} images of {classes} classes; an exit threshold needs images of at "
            "least two: give other data"
        )
    if bad := int((~run.logits_sum.isfinite()).any(dim=2).any(dim=0).sum()):
        raise CalibrationError(
            f"the outputs of {bad} of {len(run)} images of the exit split are not finite: "
            "check the images for NaN and the network's weights"
        )
    run = run.of(rule, state)
    found: ExitCalibration[Policy] = calibrate(run.independent() if asked.confidence is not None else run, asked)
    return found


def calibrate_exit(logits_sum: Tensor, labels: Tensor, policy: Policy, **target: Any) -> ExitCalibration[Policy]:
    """:func:`find_exit` on logits ``[T, N, K]`` and labels ``[N]``, without initial steps and energies."""
    return find_exit(CachedRun(logits_sum=logits_sum, labels=labels), policy, **target)
