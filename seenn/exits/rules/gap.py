"""Top-2 gap: stop once the best class leads by enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from seenn.core.ops import State
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ThresholdExit
from seenn.exits.scores import Accumulation, accumulated, check_accumulation, top_two_gap


@register_policy("gap")
@dataclass(frozen=True, kw_only=True)
class GapExit(ThresholdExit):
    """Stop once the largest output leads the second by more than ``threshold``, in the logits' unit.

    One threshold for every t, or one per timestep. Below 0 it stops at once. After cutoff (arXiv:2301.09522), which
    takes the sum: see ``CutoffExit``.
    """

    summary: ClassVar[str] = "the best class leads the second by enough"
    accumulation: Accumulation = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_accumulation(self.accumulation)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return top_two_gap(accumulated(progress.t, logits_sum, self.accumulation)), state
