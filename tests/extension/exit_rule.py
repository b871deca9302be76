"""An exit rule: a score is all that it needs to be calibrated, compared and stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import seenn
from seenn.exits import Progress, State


@seenn.register_policy("spread")
@dataclass(frozen=True, kw_only=True)
class SpreadExit(seenn.ThresholdExit):
    """Stop once the standard deviation of the summed logits exceeds ``threshold``."""

    summary: ClassVar[str] = "the outputs lie far apart"

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return logits_sum.std(-1), state
