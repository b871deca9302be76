"""Two-sided stopping: the sure leave early, and so do the hopeless."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import integer, number
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.rules.confidence import ConfidenceExit
from seenn.exits.scored import ScoredExit, Threshold

_CANDIDATES = 64
_LOST = 0.001  # of the samples


@register_policy("two-sided")
@dataclass(frozen=True, kw_only=True)
class TwoSidedExit(ScoredExit):
    """Stop as ``inner`` does, or once its score is below ``give_up`` and has not climbed.

    Idea from 'Conformal Thinking' (arXiv:2602.03814): a sample that is never right otherwise pays T every time.
    Hopeless is ``point >= after``, ``score < give_up`` and ``score - last score <= slope``, where points are the exits
    that a sample has passed, the timesteps in a network without heads; its score then is ``inner.never``, above every
    threshold but that one, so that one threshold still orders the whole rule.
    """

    summary: ClassVar[str] = "the rule inside it says so, or the case is hopeless"
    learned: ClassVar[tuple[str, ...]] = ("give_up",)
    inner: ScoredExit = field(default_factory=ConfidenceExit)  # not two-sided itself
    give_up: float = 0.3  # in the score's unit
    slope: float = 1e-6  # in the score's unit per step; above 0, so that rounding does not decide between equals
    after: int = 2  # first exit point at which to give up, >= 2: there is no slope before

    def __post_init__(self) -> None:
        if not isinstance(self.inner, ScoredExit) or isinstance(self.inner, TwoSidedExit):
            raise ValueError(f"inner must be a one-sided rule with a score, got {type(self.inner).__name__}")
        number("give_up", self.give_up)
        number("slope", self.slope)
        integer("after", self.after, low=2)

    @property
    def least(self) -> float:
        return self.inner.least

    @property
    def never(self) -> float:
        return self.inner.never

    def start(self, inputs: Tensor) -> State:
        return torch.zeros(inputs.shape[0], dtype=inputs.dtype, device=inputs.device), *self.inner.start(inputs)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        last, *rest = state
        score, inner_state = self.inner.score(progress, logits_sum, tuple(rest))
        return score.masked_fill(self._hopeless(progress.point, score, last), self.never), (score, *inner_state)

    def _hopeless(self, point: Tensor, score: Tensor, last: Tensor) -> Tensor:
        return (point >= self.after) & (score < self.give_up) & (score - last <= self.slope)

    def limit(self, progress: Progress) -> Tensor | float:
        return self.inner.limit(progress)

    def at(self, threshold: Threshold) -> Self:
        return replace(self, inner=self.inner.at(threshold))

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        return self.inner.confidence(progress, logits_sum)

    def fitted(self, run: CachedRun) -> Self:
        """With the highest ``give_up`` that costs at most 0.1 % of the samples an answer that is right at T.

        Answers that giving up keeps right, and that T would lose, are not set against them: by chance they would
        excuse too much. The inner rule is fitted first.
        """
        inner = self.inner.fitted(run)
        points, n = run.logits_sum.shape[:2]
        correct, scores = run.correct(), run.scores(inner)
        last, point = torch.cat([scores[:1], scores[:-1]]), torch.arange(1, points + 1)[:, None]
        levels = scores.flatten().sort().values[:: max(1, points * n // _CANDIDATES)]
        # The lowest level is the smallest score: nothing is below it, nobody gives up, nothing is lost.
        for level in levels.flip(0).tolist():
            fitted = replace(self, inner=inner, give_up=level)
            hopeless = fitted._hopeless(point, scores, last)
            hopeless[-1] = True  # T ends it for everyone
            answered = hopeless.to(torch.uint8).argmax(dim=0)
            if int((correct[-1] & ~correct[answered, torch.arange(n)]).sum()) <= _LOST * n:
                break
        return fitted
