"""DT-SNN: stop once the answer's entropy is low."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seenn.core.ops import State
from seenn.exits.policy import register_policy
from seenn.exits.scored import (
    Accumulation,
    ProbabilityExit,
    accumulated,
    check_accumulation,
    normalized_entropy,
)


@register_policy("entropy")
@dataclass(frozen=True, kw_only=True)
class EntropyExit(ProbabilityExit):
    """DT-SNN (arXiv:2305.17346): stop once ``1 - H(softmax S) / log K`` exceeds ``threshold``."""

    accumulation: Accumulation = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_accumulation(self.accumulation)

    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return 1 - normalized_entropy(accumulated(t, logits_sum, self.accumulation).log_softmax(-1)), state
