"""DT-SNN: stop once the answer's entropy is low."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from seenn.core.ops import State
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ProbabilityExit
from seenn.exits.scores import Accumulation, accumulated, check_accumulation, normalized_entropy


@register_policy("entropy")
@dataclass(frozen=True, kw_only=True)
class EntropyExit(ProbabilityExit):
    """DT-SNN (arXiv:2305.17346): stop once ``1 - H(softmax S) / log K`` exceeds ``threshold``."""

    summary: ClassVar[str] = "the answer's entropy is low (DT-SNN)"
    accumulation: Accumulation = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_accumulation(self.accumulation)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        scores = accumulated(progress.t, logits_sum, self.accumulation)
        return 1 - normalized_entropy(scores.log_softmax(-1)), state
