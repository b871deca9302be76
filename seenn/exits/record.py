"""Whether a policy still belongs to the network beside it, by what its file remembers."""

from __future__ import annotations

from collections.abc import Sequence

from seenn.errors import CalibrationError
from seenn.exits.registry import EXIT_RULES

CALIBRATE = "seenn calibrate-exit"


def check_record(
    record: object, *, network: str, timesteps: int, engine: str | None = None, heads: Sequence[str] = ()
) -> str | None:
    """Refuses a policy that was made for another network, heads or T; without a record there is nothing to check.

    Returns:
        A sentence where the policy was calibrated on another engine than ``engine``, the one that runs: its outputs
        may differ. None where it was the same, or where either is unknown.

    Raises:
        CalibrationError: which of the two, and what to do.
    """
    if not isinstance(record, dict):
        return None
    policy = record.get("policy")
    name = policy.get("policy") if isinstance(policy, dict) else policy
    again = CALIBRATE
    if isinstance(name, str) and name in EXIT_RULES:
        again = getattr(EXIT_RULES.get(name), "made_with", CALIBRATE)
    made_with, own = (", ".join(map(str, names)) or "no heads" for names in (record.get("heads") or (), heads))
    if made_with != own and "network" in record:
        raise CalibrationError(
            f"the {name} exit policy was made for a network with {made_with}, and this one has {own}: run `{again}`"
        )
    if isinstance(found := record.get("network"), str) and found != network:
        raise CalibrationError(
            f"the {name} exit policy was made for another network (fingerprint {found[:12]}…, this one is "
            f"{network[:12]}…): its weights have changed since. Run `{again}` on this one"
        )
    if isinstance(made_for := record.get("timesteps"), int) and made_for != timesteps:
        raise CalibrationError(
            f"the {name} exit policy was made for {made_for} timesteps, and {timesteps} are asked for: "
            f"run {made_for}, or make one with `{again} --timesteps {timesteps}`"
        )
    if engine is not None and isinstance(made_on := record.get("engine"), str) and made_on != engine:
        return (
            f"the {name} exit policy was calibrated on the {made_on} engine and runs on {engine}: exits may differ; "
            f"calibrate again with --engine {engine}"
        )
    return None
