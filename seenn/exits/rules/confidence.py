"""SEENN-I: stop as soon as the network is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import number
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ProbabilityExit
from seenn.exits.scores import Accumulation, check_accumulation, softmax_confidence


@register_policy("confidence")
@dataclass(frozen=True, kw_only=True)
class ConfidenceExit(ProbabilityExit):
    """SEENN-I (Li et al., NeurIPS 2023): stop once the top softmax probability exceeds ``threshold``.

    The paper has temperature 8 for converted networks. Of the sum, which sharpens with t even where the opinion
    does not change, so that nobody waits for ever; the confidence that is *reported* is that of the mean, whose
    probabilities mean the same at every t.
    """

    summary: ClassVar[str] = "the top softmax probability is high (SEENN-I)"
    temperature: float = 1.0  # divides the logits, > 0
    accumulation: Accumulation = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        number("temperature", self.temperature)
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        check_accumulation(self.accumulation)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        t, accumulation = progress.t, self.accumulation
        return softmax_confidence(t, logits_sum, temperature=self.temperature, accumulation=accumulation), state

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(progress.t, logits_sum, temperature=self.temperature)
