"""SEENN-I: stop as soon as the network is sure."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from seenn.exits.policy import register_policy
from seenn.exits.scored import (
    Accumulation,
    ProbabilityExit,
    check_accumulation,
    softmax_confidence,
)
from seenn.ops import State
from seenn.ops.arguments import number


@register_policy("confidence")
@dataclass(frozen=True, kw_only=True)
class ConfidenceExit(ProbabilityExit):
    """SEENN-I (Li et al., NeurIPS 2023): stop once the top softmax probability exceeds ``threshold``.

    The paper accumulates by sum, with temperature 8 for converted networks; the mean is the default here,
    because its probabilities mean the same at every t and compare with the ANN's.
    """

    temperature: float = 1.0  # divides the logits, > 0
    accumulation: Accumulation = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("temperature", self.temperature)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        check_accumulation(self.accumulation)

    def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return self.confidence(t, logits_sum), state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum, temperature=self.temperature, accumulation=self.accumulation)
