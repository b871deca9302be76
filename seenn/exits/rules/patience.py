"""Patience: stop once the answer has stayed the same for long enough."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import integer
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ScoredExit, Threshold


@register_policy("patience")
@dataclass(frozen=True, kw_only=True)
class PatienceExit(ScoredExit):
    """Stop after ``patience`` equal predictions in a row; the score is the length of the current run.

    Two columns of state a sample: the last prediction and its run.
    """

    summary: ClassVar[str] = "the answer stayed the same"
    threshold_field: ClassVar[str] = "patience"
    least: ClassVar[float] = 0.0
    never: ClassVar[float] = float((1 << 20) - 1)
    patience: int = 3  # >= 1; 1 stops at once

    def __post_init__(self) -> None:
        integer("patience", self.patience, low=1)

    def refuse_never(self, run: CachedRun) -> None:
        run.refuse_never("the same answer in", self.patience)

    def start(self, inputs: Tensor) -> State:
        none = torch.full((inputs.shape[0],), -1, dtype=torch.int64, device=inputs.device)
        return none, torch.zeros_like(none)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        last, run = state
        prediction = logits_sum.argmax(-1)
        run = torch.where(prediction == last, run + 1, 1)
        return run.to(torch.float32), (prediction, run)

    def limit(self, progress: Progress) -> float:
        return float(self.patience - 1)

    def at(self, threshold: Threshold) -> Self:
        if isinstance(threshold, tuple):
            raise ValueError("patience is one number for every timestep, got one per timestep: give one")
        return replace(self, patience=max(1, math.floor(threshold) + 1))
