"""SpikeCP: stop once the set of plausible classes is small."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import integer, number
from seenn.errors import CalibrationError
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import ScoredExit, Threshold
from seenn.exits.scores import accumulated, at_point, numbers_per_timestep


@register_policy("conformal")
@dataclass(frozen=True, kw_only=True)
class ConformalExit(ScoredExit):
    """SpikeCP (arXiv:2305.11322): stop once ``{c : -log p_c <= s_t}`` has at most ``max_size`` classes.

    p = softmax(S_t / t). With s_t from ``fitted``, the label of a new image is in the set at the stopping
    time, whatever stops it and T included, with probability at least 1 - ``alpha``: each of the T sets misses
    it with probability at most alpha / T (Bonferroni), over the draw of the fitting samples and the image.
    """

    summary: ClassVar[str] = "few classes are plausible (SpikeCP)"
    threshold_field: ClassVar[str] = "max_size"
    learned: ClassVar[tuple[str, ...]] = ("quantiles",)
    least: ClassVar[float] = -float(1 << 20)
    never: ClassVar[float] = -0.5  # the score is minus the set's size
    max_size: int = 1  # I >= 0; 0 never stops early
    alpha: float = 0.1  # in (0, 1): the miscoverage that ``quantiles`` were fitted for
    quantiles: tuple[float, ...] = (0.1,)  # s_t >= 0 for t = 1, 2, …, in nats; one holds for every t

    def __post_init__(self) -> None:
        integer("max_size", self.max_size)
        if not 0.0 < number("alpha", self.alpha) < 1.0:
            raise ValueError(f"alpha is a probability in (0, 1), got {self.alpha}")
        values = numbers_per_timestep("quantiles", self.quantiles)
        if min(values) < 0.0:
            raise ValueError(f"quantiles are -log p, at least 0, got {min(values)}")
        object.__setattr__(self, "quantiles", values)

    def contains(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        """Which classes are in the set there, bool ``[B, K]``."""
        surprise = -accumulated(progress.t, logits_sum, "mean").log_softmax(-1)
        quantiles = self.quantiles
        if len(quantiles) == 1:
            return surprise <= quantiles[0]
        return surprise <= at_point(quantiles, progress).to(surprise.dtype).unsqueeze(-1)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        size = self.contains(progress, logits_sum).sum(-1)
        # An empty set knows nothing, so it counts as larger than any.
        return -torch.where(size > 0, size, logits_sum.shape[-1] + 1).to(torch.float32), state

    def limit(self, progress: Progress) -> float:
        return -(self.max_size + 0.5)

    def at(self, threshold: Threshold) -> Self:
        if isinstance(threshold, tuple):
            raise ValueError("max_size is one number for every timestep, got one per timestep")
        return replace(self, max_size=max(0, math.ceil(-threshold) - 1))

    def fitted(self, run: CachedRun) -> Self:
        """With the ``⌈(n+1)(1 - alpha/T)⌉``-th smallest ``-log p_label`` at each of T exit points: split conformal.

        Raises:
            CalibrationError: too few samples for that order statistic to exist.
        """
        points, n = run.logits_sum.shape[:2]
        rank = math.ceil((n + 1) * (1 - self.alpha / points))
        if rank > n:
            raise CalibrationError(
                f"{n} samples are too few for conformal sets with alpha = {self.alpha} at {points} {run.unit}: "
                f"each needs level {self.alpha / points:.4g}, so at least "
                f"{math.ceil(points / self.alpha) - 1} samples; raise alpha, run fewer {run.unit} or hold out more"
            )
        quantiles = []
        for t, logits in zip(run.t.tolist(), run.logits_sum, strict=True):
            surprise = -(logits / t).log_softmax(-1).gather(1, run.labels[:, None]).squeeze(1)
            quantiles.append(max(0.0, float(surprise.kthvalue(rank).values)))
        return replace(self, quantiles=tuple(quantiles))
