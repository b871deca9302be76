"""When to stop: the seam between engines and exit rules.

A policy is a frozen dataclass of numbers. Like neurons, it keeps no memory of its own: what a rule must
remember about a sample (a budget, how often the answer stayed the same) is explicit state with the batch
first, so that an engine may drop or refill samples by row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CheckpointError, did_you_mean
from seenn.exits.policy_network import PolicyNetwork


@runtime_checkable
class ExitPolicy(Protocol):
    """Decides, per sample, when to stop. Engines force every sample out at the last timestep.

    A policy that computes on the images also has ``macs``, its multiply-accumulates for one image: the figures
    count them.
    """

    kind: ClassVar[str]

    def start(self, images: Tensor) -> State:
        """The rule's state for new samples ``[B, C, H, W]``; every tensor has B rows. Often ``()``."""

    def stop(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        """Which samples stop now, bool ``[B]``, and the new state.

        Args:
            t: timesteps each sample has run, int64 ``[B]``.
            logits_sum: outputs summed over those steps, ``[B, K]``.
            state: what ``start`` or the last call returned, for these rows.
        """

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        """How sure the answer is, ``[B]`` in [0, 1]; what a prediction reports."""


PolicyClass = TypeVar("PolicyClass", bound=type[Any])
_POLICIES: dict[str, type[Any]] = {}


def register_policy(kind: str) -> Callable[[PolicyClass], PolicyClass]:
    """Class decorator: names a policy dataclass for checkpoints and the command line.

    Raises:
        ValueError: the name is taken: a file that names it would mean two rules.
    """

    def add(cls: PolicyClass) -> PolicyClass:
        if kind in _POLICIES:
            raise ValueError(
                f"exit policy {kind!r} is already registered, by {_POLICIES[kind].__name__}; "
                f"give {cls.__name__} another name"
            )
        cls.kind = kind
        _POLICIES[kind] = cls
        return cls

    return add


def policy_to_json(
    policy: ExitPolicy, graph: Callable[[str, PolicyNetwork], Any] = lambda name, network: network.summary()
) -> dict[str, Any]:
    """``{"policy": kind, field: value, …}``; a policy inside a policy likewise.

    A class from outside this package adds ``"class"``, its Python path, for people to read. ``graph`` says what
    stands for a network (under its field's name): by default its size, which is for reading only.
    """
    fields = {field.name: getattr(policy, field.name) for field in dataclasses.fields(policy)}  # type: ignore[arg-type]
    for name, value in fields.items():
        if isinstance(value, ExitPolicy):
            fields[name] = policy_to_json(value, graph)
        elif isinstance(value, PolicyNetwork):
            fields[name] = {"graph": graph(name, value)}
    kind = type(policy)
    own = {} if _is_ours(kind) else {"class": f"{kind.__module__}:{kind.__qualname__}"}
    return {"policy": policy.kind, **own, **fields}


def policy_from_json(
    description: Mapping[str, Any], graph: Callable[[str, Any], PolicyNetwork] | None = None
) -> ExitPolicy:
    """The policy that ``policy_to_json`` described; at most one policy deep inside another.

    Raises:
        CheckpointError: unknown policy, unknown field, or a value that the policy refuses.
    """
    fields = dict(description) if isinstance(description, Mapping) else {}
    for name, value in fields.items():
        if isinstance(value, Mapping) and "graph" in value and graph is not None:
            fields[name] = graph(name, value["graph"])
        elif isinstance(value, Mapping):
            fields[name] = _build(value)
    return _build(fields)


def _build(fields: Mapping[str, Any]) -> ExitPolicy:
    kind, own = fields.get("policy"), fields.get("class")
    if not isinstance(kind, str) or kind not in _POLICIES:
        if isinstance(own, str):
            raise CheckpointError(
                f"the exit policy {kind!r} is not one of seenn's: it was stored as {own}. "
                f"Name it with --policy {own}, which imports and runs that code; in Python, import it before loading"
            )
        known = ", ".join(sorted(_POLICIES))
        raise CheckpointError(
            f"unknown exit policy {kind!r}: this version knows {known}.{did_you_mean(str(kind), _POLICIES)}"
        )
    arguments = {key: value for key, value in fields.items() if key not in ("policy", "class")}
    try:
        policy: ExitPolicy = _POLICIES[kind](**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"exit policy {kind!r} cannot be built from its description: {error}") from error
    return policy


def _is_ours(kind: type[Any]) -> bool:
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]
