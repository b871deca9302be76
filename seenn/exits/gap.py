"""Cutoff: stop once the best class leads by enough."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seenn.exits.policy import register_policy
from seenn.exits.scored import (
    Accumulation,
    ThresholdExit,
    accumulated,
    check_accumulation,
    top_two_gap,
)
from seenn.ops import State


@register_policy("gap")
@dataclass(frozen=True, kw_only=True)
class GapExit(ThresholdExit):
    """Cutoff (arXiv:2301.09522): stop once the largest output leads the second by more than ``threshold``.

    In the logits' unit; below 0 it stops at once.
    The paper takes the sum and one threshold per timestep; one for every t is allowed as well.
    """

    accumulation: Accumulation = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_accumulation(self.accumulation)

    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return top_two_gap(accumulated(t, logits_sum, self.accumulation)), state
