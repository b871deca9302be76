"""Choosing an exit threshold on held-out data, exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.confidence import ConfidenceExit
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.exits.replay import replay
from seenn.exits.scored import ScoredExit, ThresholdExit, exit_scores
from seenn.metrics.accuracy import correct_per_timestep
from seenn.metrics.exit_curve import ExitCurve, exit_curve

FIT_FRACTION = 1 / 3  # of the exit split: what a rule's own numbers are fitted on, not its threshold
_SPLIT_SEED = 0

Policy = TypeVar("Policy", bound=ExitPolicy)
Scored = TypeVar("Scored", bound=ScoredExit)


@dataclass(frozen=True, kw_only=True)
class ExitCalibration(Generic[Policy]):
    """A policy and what it does on the data that its threshold was chosen on."""

    policy: Policy
    samples: int
    accuracy: float  # at the exit
    full_accuracy: float  # at T
    mean_timesteps: float
    mean_energy_pj: float | None = None  # None where no energies were given
    curve: ExitCurve | None = None  # None for a rule without a score

    def after(self, prepass: int) -> Self:
        """The same with the steps of a pre-pass in every number of timesteps."""
        curve = None if self.curve is None else self.curve.after(prepass)
        return replace(self, mean_timesteps=self.mean_timesteps + prepass, curve=curve)


def calibrate_exit(
    logits_sum: Tensor,
    labels: Tensor,
    policy: Scored,
    *,
    max_accuracy_drop: float | None = None,
    target_timesteps: float | None = None,
    target_energy: float | None = None,
    energy_pj: Tensor | None = None,
    state: State | None = None,
) -> ExitCalibration[Scored]:
    """The best threshold for a scored rule on cached logits; without a target the threshold is left as given.

    With ``max_accuracy_drop`` ε: the smallest mean timesteps among *all* thresholds that keep the accuracy at
    exit at or above the accuracy at T minus ε. With ``target_timesteps`` or ``target_energy``: the highest
    accuracy within that mean. Candidates are the scores themselves, so nothing is missed between grid points.
    A rule with numbers of its own (``learns``) is fitted first, on a third of the samples; its threshold and
    all figures come from the other two.

    Args:
        logits_sum: ``[T, N, K]``, from ``collect_logits`` on the exit split.
        labels: ``[N]``.
        policy: the rule.
        max_accuracy_drop: ε in [0, 1), as a fraction (0.005 is half a point).
        target_timesteps: mean timesteps, at least 1.
        target_energy: mean energy per image up to its exit, in pJ; needs ``energy_pj``.
        energy_pj: energy of each sample up to each step, ``[T, N]``, from ``collect_run``; without what the rule's own
            network takes.
        state: as for ``replay``: of rules that look at images.

    Raises:
        ValueError: several targets, or one out of range.
        CalibrationError: fewer than two classes, too few samples to split, logits that are not finite, or a
            target that no threshold meets; the message names the nearest that one does.
    """
    if sum(target is not None for target in (max_accuracy_drop, target_timesteps, target_energy)) > 1:
        raise ValueError("give one of max_accuracy_drop, target_timesteps and target_energy")
    if max_accuracy_drop is not None and not 0.0 <= max_accuracy_drop < 1.0:
        raise ValueError(f"max_accuracy_drop is a fraction in [0, 1), got {max_accuracy_drop}")
    if target_timesteps is not None and not target_timesteps >= 1.0:
        raise ValueError(f"target_timesteps must be at least 1: every image takes one step, got {target_timesteps}")
    if target_energy is not None and energy_pj is None:
        raise ValueError("target_energy needs energy_pj, the energy of each sample up to each step")
    check_exit_split(logits_sum, labels)
    if target_timesteps is not None and target_timesteps > len(logits_sum):
        raise CalibrationError(
            f"a mean of {target_timesteps} timesteps cannot be reached: the network runs for {len(logits_sum)}, "
            f"so ask for at most {len(logits_sum)}, or run it for more"
        )
    if policy.learns:
        fit, rest = fit_split(len(labels))
        policy = policy.fitted(logits_sum[:, fit], labels[fit])
        logits_sum, labels = logits_sum[:, rest], labels[rest]
        energy_pj = None if energy_pj is None else energy_pj[:, rest]
        state = None if state is None else tuple(tensor[rest] for tensor in state)
    correct = correct_per_timestep(logits_sum, labels)
    curve = exit_curve(exit_scores(policy, logits_sum, state), correct, energy_pj)
    reachable = _reachable(curve, policy)
    if max_accuracy_drop is not None:
        # Accuracies are k/N: the allowance keeps «exactly ε below» within ε when floats round.
        index = reachable.cheapest(float(correct[-1].double().mean()) - max_accuracy_drop - 1e-12)
        policy = at_score(policy, float(reachable.threshold[index]))
    if target_timesteps is not None:
        if (nearest := float(reachable.mean_timesteps[0])) > target_timesteps:
            raise CalibrationError(
                f"no threshold of the {policy.kind} rule gives a mean of {target_timesteps} timesteps: "
                f"the nearest is {nearest:.2f}; ask for that, or use another rule"
            )
        policy = at_score(policy, float(reachable.threshold[reachable.best_within(target_timesteps)]))
    if target_energy is not None:
        assert reachable.mean_energy_pj is not None
        least, most = float(reachable.mean_energy_pj[0]), float(reachable.mean_energy_pj[-1])
        if not least <= target_energy <= most:
            raise CalibrationError(
                f"no threshold of the {policy.kind} rule gives a mean of {target_energy:.6g} pJ per image: it can give "
                f"{least:.6g} to {most:.6g} pJ, and the nearest is {min(max(target_energy, least), most):.6g}; "
                "ask for that, or use another rule"
            )
        policy = at_score(policy, float(reachable.threshold[reachable.best_within_energy(target_energy)]))
    return judge_exit(logits_sum, labels, policy, curve=curve, energy_pj=energy_pj, state=state)


def _reachable(curve: ExitCurve, policy: ScoredExit) -> ExitCurve:
    """The points that the rule's thresholds can give: not those where a score must exceed less than the least.

    An entropy score is 0 for equal outputs, and no threshold is below 0. Never stopping early is always possible.
    """
    keep = curve.threshold >= policy.least
    keep[-1] = True
    return curve.only(keep)


def calibrate_confidence(
    logits_sum: Tensor, labels: Tensor, base: ConfidenceExit, *, max_accuracy_drop: float | None = None
) -> ExitCalibration[ConfidenceExit]:
    """``calibrate_exit`` for SEENN-I."""
    return calibrate_exit(logits_sum, labels, base, max_accuracy_drop=max_accuracy_drop)


def calibrate_fixed(
    logits_sum: Tensor,
    labels: Tensor,
    policy: FixedExit,
    *,
    energy_pj: Tensor | None = None,
    **target: Any,
) -> ExitCalibration[FixedExit]:
    """``calibrate_exit`` for the same number of steps for everyone, with the same targets.

    Raises:
        ValueError, CalibrationError: as in ``calibrate_exit``; or more steps than the logits have.
    """
    steps = len(logits_sum) if policy.timesteps is None else policy.timesteps
    if steps > len(logits_sum):
        raise CalibrationError(
            f"a fixed exit after {steps} timesteps is never reached: the network runs for {len(logits_sum)}"
        )
    found = calibrate_exit(logits_sum, labels, _StepCount(threshold=steps - 1), energy_pj=energy_pj, **target)
    policy = FixedExit(timesteps=round(found.mean_timesteps))
    return judge_exit(logits_sum, labels, policy, curve=found.curve, energy_pj=energy_pj)


@dataclass(frozen=True, kw_only=True)
class _StepCount(ThresholdExit):
    """A fixed number of steps as a scored rule: the score is t."""

    kind: ClassVar[str] = "fixed"
    least: ClassVar[float] = 0.0
    never: ClassVar[float] = float(1 << 20)

    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return t.to(torch.float32), state


def judge_exit(
    logits_sum: Tensor,
    labels: Tensor,
    policy: Policy,
    *,
    curve: ExitCurve | None = None,
    energy_pj: Tensor | None = None,
    state: State | None = None,
) -> ExitCalibration[Policy]:
    """What ``policy``, as it is, does on cached logits; ``state`` as for ``replay``."""
    correct = correct_per_timestep(logits_sum, labels)
    exit_timestep = replay(policy, logits_sum, state)
    at_exit = (exit_timestep - 1, torch.arange(len(labels)))
    return ExitCalibration(
        policy=policy,
        samples=len(labels),
        accuracy=float(correct[at_exit].double().mean()),
        full_accuracy=float(correct[-1].double().mean()),
        mean_timesteps=float(exit_timestep.double().mean()),
        mean_energy_pj=None if energy_pj is None else float(energy_pj[at_exit].mean()),
        curve=curve,
    )


def at_score(policy: Scored, score: float) -> Scored:
    """The rule at a threshold from a curve, moved into the rule's range."""
    return policy.at(min(max(score, policy.least), policy.never))


def fit_split(samples: int) -> tuple[Tensor, Tensor]:
    """Indices of a third of the samples, and of the others; the same for every run."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return order.tensor_split([round(samples * FIT_FRACTION)])  # type: ignore[return-value]


def check_exit_split(logits_sum: Tensor, labels: Tensor) -> None:
    """Refuses what no threshold can be chosen on.

    Raises:
        CalibrationError: fewer than two classes, or logits that are not finite.
    """
    classes = len(set(labels.tolist()))
    if classes < 2:
        raise CalibrationError(
            f"the exit split has {len(labels)} images of {classes} classes; "
            "an exit threshold needs images of at least two"
        )
    if bad := int((~logits_sum.isfinite()).any(dim=2).any(dim=0).sum()):
        raise CalibrationError(
            f"the outputs of {bad} of {len(labels)} images of the exit split are not finite: "
            "check the images for NaN and the network's weights"
        )
