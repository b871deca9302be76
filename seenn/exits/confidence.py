"""SEENN-I: stop as soon as the network is sure."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import number
from seenn.exits.policy import register_policy
from seenn.exits.scored import (
    Accumulation,
    ProbabilityExit,
    check_accumulation,
    softmax_confidence,
)


@register_policy("confidence")
@dataclass(frozen=True, kw_only=True)
class ConfidenceExit(ProbabilityExit):
    """SEENN-I (Li et al., NeurIPS 2023): stop once the top softmax probability exceeds ``threshold``.

    The paper has temperature 8 for converted networks. Of the sum, which sharpens with t even where the opinion
    does not change, so that nobody waits for ever; the confidence that is *reported* is that of the mean, whose
    probabilities mean the same at every t.
    """

    temperature: float = 1.0  # divides the logits, > 0
    accumulation: Accumulation = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("temperature", self.temperature)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        check_accumulation(self.accumulation)

    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        score = softmax_confidence(t, logits_sum, temperature=self.temperature, accumulation=self.accumulation)
        return score, state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum, temperature=self.temperature)
