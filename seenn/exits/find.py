"""One way to calibrate any policy on a cached run."""

from __future__ import annotations

from typing import Any

from seenn.errors import CalibrationError
from seenn.exits.calibrate import ExitCalibration, calibrate_exit, calibrate_fixed
from seenn.exits.collect import CachedRun
from seenn.exits.cutoff import CutoffExit, calibrate_cutoff
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.exits.scored import ScoredExit
from seenn.ops import State


def find_exit(
    run: CachedRun, policy: ExitPolicy, *, state: State | None = None, **targets: Any
) -> ExitCalibration[Any]:
    """The policy that meets its target on ``run``, by the calibration of its kind: see ``calibrate_exit``.

    Energies include what the policy's own network takes.

    Raises:
        CalibrationError: as there; or a policy that has nothing to calibrate.
    """
    arguments, energy_pj = (run.logits_sum, run.labels), run.energy_with(policy)
    if isinstance(policy, FixedExit):
        return calibrate_fixed(*arguments, policy, energy_pj=energy_pj, **targets)
    if isinstance(policy, CutoffExit):
        return calibrate_cutoff(*arguments, policy, energy_pj=energy_pj, **targets)
    if isinstance(policy, ScoredExit):
        return calibrate_exit(*arguments, policy, energy_pj=energy_pj, state=state, **targets)
    raise CalibrationError(
        f"the {policy.kind} policy has no threshold to calibrate: derive it from seenn.ThresholdExit, or store it as "
        "it is with seenn.save"
    )
