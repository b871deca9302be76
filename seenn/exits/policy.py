"""When to stop: the seam between engines and exit rules.

A policy is a frozen dataclass of numbers. Like neurons, it keeps no memory of its own: what a rule must
remember about a sample (a budget, how often the answer stayed the same) is explicit state with the batch
first, so that an engine may drop or refill samples by row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CheckpointError, did_you_mean
from seenn.exits.policy_network import PolicyNetwork
from seenn.exits.progress import Progress
from seenn.exits.registry import EXIT_RULES


@runtime_checkable
class ExitPolicy(Protocol):
    """Decides, per sample, when to stop. Engines force every sample out at the last timestep.

    A policy that computes on the inputs also has ``macs``, its multiply-accumulates for one sample: the figures
    count them. One that can be calibrated has ``calibrate(run, target)``, see ``seenn.exits.find_exit``.
    """

    kind: ClassVar[str]

    def start(self, inputs: Tensor) -> State:
        """The rule's state for new samples ``[B, ...]``; every tensor has B rows. Often ``()``."""

    def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        """Which samples stop now, bool ``[B]``, and the new state.

        Args:
            progress: where each sample stands: the timesteps that have answered, ``progress.t`` int64 ``[B]``, the exit
                point in order of cost, and what it has cost.
            logits_sum: outputs summed over those steps, ``[B, K]``; of the last one those of the exit reached in it.
            state: what ``start`` or the last call returned, for these rows.
        """

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        """How sure the answer there is, ``[B]`` in [0, 1]; what a prediction reports."""


def policy_macs(policy: object) -> int:
    """Multiply-accumulates that ``policy`` itself does on a sample: its ``macs``, 0 where it has none."""
    return int(getattr(policy, "macs", 0))


def policy_to_json(policy: ExitPolicy, tensors: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """``{"policy": kind, field: value, …}``; a policy inside a policy likewise.

    A class from outside this package adds ``"class"``, its Python path, for people to read. A network is its graph,
    whose tensors are added to ``tensors``, their names after that of the field; without ``tensors`` it is its size, for
    reading only.
    """
    fields = {field.name: getattr(policy, field.name) for field in dataclasses.fields(policy)}  # type: ignore[arg-type]
    for name, value in fields.items():
        if isinstance(value, ExitPolicy):
            fields[name] = policy_to_json(value, tensors)
        elif isinstance(value, PolicyNetwork):
            fields[name] = {"graph": value.summary() if tensors is None else value.to_json(tensors, f"{name}:")}
    kind = type(policy)
    ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    return {"policy": policy.kind, **({} if ours else {"class": f"{kind.__module__}:{kind.__qualname__}"}), **fields}


def policy_from_json(description: Any, tensors: dict[str, Tensor] | None = None) -> ExitPolicy:
    """The policy that ``policy_to_json`` described; at most one policy deep inside another. Takes its tensors out.

    Raises:
        CheckpointError: unknown policy, unknown field, or a value that the policy refuses.
        PluginError: a plugin that is installed cannot be imported.
    """
    fields = dict(description) if isinstance(description, Mapping) else {}
    for name, value in fields.items():
        if isinstance(value, Mapping) and "graph" in value and tensors is not None:
            fields[name] = PolicyNetwork.from_json(value["graph"], tensors, f"{name}:")
        elif isinstance(value, Mapping):
            fields[name] = _build(value)
    return _build(fields)


def _build(fields: Mapping[str, Any]) -> ExitPolicy:
    kind, own = fields.get("policy"), fields.get("class")
    if kind not in EXIT_RULES and isinstance(own, str):
        raise CheckpointError(
            f"the exit policy {kind!r} is not one of seenn's: it was stored as {own}. Name its module with --plugin "
            f"{own.partition(':')[0]}, which imports and runs that code; in Python, import it before loading"
        )
    if kind not in EXIT_RULES:
        known = EXIT_RULES.names()
        raise CheckpointError(
            f"unknown exit policy {kind!r}.{did_you_mean(str(kind), known)} A newer seenn may know it: update"
        )
    try:
        policy: ExitPolicy = EXIT_RULES.get(str(kind))(
            **{k: v for k, v in fields.items() if k not in ("policy", "class")}
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"exit policy {kind!r} cannot be built from its description: {error}; calibrate it again"
        ) from error
    return policy
