"""What a calibration found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from seenn.exits.calibration.replay import CachedRun
from seenn.exits.policy import ExitPolicy
from seenn.metrics import ExitCurve

Policy = TypeVar("Policy", bound=ExitPolicy)


@dataclass(frozen=True, kw_only=True)
class ExitCalibration(Generic[Policy]):
    """A policy and what it does on the data that its threshold was chosen on."""

    policy: Policy
    samples: int
    accuracy: float  # at the exit
    full_accuracy: float  # at T
    mean_timesteps: float  # mean cost in full timesteps, initial steps included
    mean_energy_pj: float | None = None  # None where no energies were given
    curve: ExitCurve | None = None  # None for a rule without one threshold


def judge_exit(run: CachedRun, policy: Policy, *, curve: ExitCurve | None = None) -> ExitCalibration[Policy]:
    """What ``policy``, as it is, does on ``run``."""
    correct, stopped = run.correct(), run.exits(policy) - 1
    at_exit = (stopped, torch.arange(len(run)))
    return ExitCalibration(
        policy=policy,
        samples=len(run),
        accuracy=float(correct[at_exit].double().mean()),
        full_accuracy=float(correct[-1].double().mean()),
        mean_timesteps=float(run.cost[stopped].mean()),
        mean_energy_pj=None if run.energy_pj is None else float(run.energy_pj[at_exit].mean()),
        curve=curve,
    )
