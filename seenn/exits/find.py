"""One way to calibrate any policy on a cached run."""

from __future__ import annotations

from typing import Any

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.calibrate import ExitCalibration, calibrate_exit, calibrate_fixed
from seenn.exits.cutoff import CutoffExit, calibrate_cutoff
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.exits.replay import CachedRun
from seenn.exits.scored import ScoredExit


def find_exit(
    run: CachedRun, policy: ExitPolicy, *, state: State | None = None, **targets: Any
) -> ExitCalibration[Any]:
    """The policy that meets its target on ``run``, by the calibration of its kind: see ``calibrate_exit``.

    Energies include what the policy's own network takes, and timesteps those of a pre-pass: in the target, in the
    mean and in the curve.

    Raises:
        CalibrationError: as there; or a policy that has nothing to calibrate.
    """
    arguments, energy_pj = (run.logits_sum, run.labels), run.energy_with(policy)
    if (steps := targets.get("target_timesteps")) is not None and run.prepass:
        if steps < run.prepass + 1:
            raise CalibrationError(
                f"a mean of {steps} timesteps cannot be reached: every image takes {run.prepass} for the pre-pass and "
                f"at least one that answers; ask for {run.prepass + 1} or more"
            )
        targets = {**targets, "target_timesteps": steps - run.prepass}
    found: ExitCalibration[Any]
    if isinstance(policy, FixedExit):
        found = calibrate_fixed(*arguments, policy, energy_pj=energy_pj, **targets)
    elif isinstance(policy, CutoffExit):
        found = calibrate_cutoff(*arguments, policy, energy_pj=energy_pj, **targets)
    elif isinstance(policy, ScoredExit):
        found = calibrate_exit(*arguments, policy, energy_pj=energy_pj, state=state, **targets)
    else:
        raise CalibrationError(
            f"the {policy.kind} policy has no threshold to calibrate: derive it from seenn.ThresholdExit, or store it "
            "as it is with seenn.save"
        )
    return found.after(run.prepass)
