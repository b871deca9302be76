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

from seenn.errors import CheckpointError, did_you_mean
from seenn.ops import State


@runtime_checkable
class ExitPolicy(Protocol):
    """Decides, per sample, when to stop. Engines force every sample out at the last timestep."""

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


def policy_to_json(policy: ExitPolicy) -> dict[str, Any]:
    """``{"policy": kind, field: value, …}``; a policy inside a policy likewise."""
    fields = {field.name: getattr(policy, field.name) for field in dataclasses.fields(policy)}  # type: ignore[arg-type]
    nested = {name: policy_to_json(value) for name, value in fields.items() if isinstance(value, ExitPolicy)}
    return {"policy": policy.kind, **fields, **nested}


def policy_from_json(description: Mapping[str, Any]) -> ExitPolicy:
    """The policy that ``policy_to_json`` described; at most one policy deep inside another.

    Raises:
        CheckpointError: unknown policy, unknown field, or a value that the policy refuses.
    """
    items = description.items() if isinstance(description, Mapping) else ()
    fields = {
        name: _build(value.get("policy"), value) if isinstance(value, Mapping) else value for name, value in items
    }
    return _build(fields.get("policy"), fields)


def _build(kind: object, fields: Mapping[str, Any]) -> ExitPolicy:
    if not isinstance(kind, str) or kind not in _POLICIES:
        known = ", ".join(sorted(_POLICIES))
        raise CheckpointError(
            f"unknown exit policy {kind!r}: this version knows {known}.{did_you_mean(str(kind), _POLICIES)}"
        )
    try:
        policy: ExitPolicy = _POLICIES[kind](**{key: value for key, value in fields.items() if key != "policy"})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"exit policy {kind!r} cannot be built from its description: {error}") from error
    return policy
