"""What a checkpoint remembers about its exit policy, and whether the policy still belongs to the network beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits
from seenn.errors import CalibrationError
from seenn.exits.policy import ExitPolicy, policy_to_json


def exit_record(
    network: SpikingNetwork, policy: ExitPolicy, timesteps: int, splits: DataSplits, **figures: Any
) -> dict[str, Any]:
    """``manifest["exit"]``: the policy, the network and T that it was made for, the data, and its figures there."""
    return {
        "policy": policy_to_json(policy),
        "network": network.graph.fingerprint(),
        "timesteps": timesteps,
        "split": "exit",
        **figures,
        "data": splits.manifest(),
    }


def check_exit_record(manifest: Mapping[str, Any], network: SpikingNetwork, timesteps: int) -> None:
    """Refuses a policy that was made for another network or another T; one without a record passes.

    Raises:
        CalibrationError: which of the two, and what to do.
    """
    record = manifest.get("exit")
    if not isinstance(record, Mapping):
        return
    kind = record.get("policy")
    name = kind.get("policy") if isinstance(kind, Mapping) else kind
    again = "seenn train-policy" if name == "seenn-ii" else "seenn calibrate-exit"
    if isinstance(found := record.get("network"), str) and found != (own := network.graph.fingerprint()):
        raise CalibrationError(
            f"the {name} exit policy was made for another network (fingerprint {found[:12]}…, this one is "
            f"{own[:12]}…): its weights have changed since. Run `{again}` on this one"
        )
    if isinstance(made_for := record.get("timesteps"), int) and made_for != timesteps:
        raise CalibrationError(
            f"the {name} exit policy was made for {made_for} timesteps, and {timesteps} are asked for: "
            f"run {made_for}, or make one with `{again} --timesteps {timesteps}`"
        )
