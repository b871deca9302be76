"""What may watch a run: spikes of every site, and scores after every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seenn.exits.progress import Progress


class Observer:
    """Watches a session; both methods do nothing until they are overridden.

    Rows belong to samples: ``samples`` int64 ``[b]`` are their numbers in the run, from 0, ``t`` int64 ``[b]`` their
    timesteps, from 1, 0 in the initial steps, and ``progress`` where they stand.
    """

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        """The spike counts of a site in one step, ``[b, C, ...]``."""

    def scores(self, progress: Progress, samples: Tensor, logits_sum: Tensor) -> None:
        """The outputs summed up to this exit point, ``[b, K]``, on the CPU."""


class ScoreTrace(Observer):
    """Keeps the summed outputs at every exit point of so many samples.

    Attributes:
        logits_sum: ``[P, N, K]``, NaN where a sample did not run.
    """

    def __init__(self, points: int, samples: int) -> None:
        self._shape = (points, samples)
        self.logits_sum = torch.empty(0)

    def scores(self, progress: Progress, samples: Tensor, logits_sum: Tensor) -> None:
        if not self.logits_sum.numel():
            self.logits_sum = logits_sum.new_full((*self._shape, logits_sum.shape[-1]), torch.nan)
        self.logits_sum[progress.point - 1, samples] = logits_sum


class SpikeSums(Observer):
    """Adds up each site's spike counts over the timesteps of so many samples.

    Args:
        samples: N.
        weights: by site, how often a spike of step t ``[B]`` counts; once where nothing is said.

    Attributes:
        sums: ``[N, C, ...]`` by site, initial steps left out.
    """

    def __init__(self, samples: int, weights: Mapping[str, Callable[[Tensor], Tensor | float]] | None = None) -> None:
        self._samples = samples
        self._weights = weights or {}
        self.sums: dict[str, Tensor] = {}

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        ran = t > 0
        if site not in self.sums:
            self.sums[site] = counts.new_zeros(self._samples, *counts.shape[1:])
        if site in self._weights and isinstance(weight := self._weights[site](t.clamp(min=1)), Tensor):
            counts = counts * weight.to(counts.device, counts.dtype).view(-1, *[1] * (counts.dim() - 1))
        where = ran.nonzero().squeeze(1)
        self.sums[site].index_add_(0, samples[where].to(counts.device), counts[where.to(counts.device)])
