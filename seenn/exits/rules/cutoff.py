"""Cutoff: a gap for every timestep, all from one tolerance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from seenn.exits.calibration.replay import CachedRun, first_above, fit_split
from seenn.exits.calibration.target import ExitCalibration, ExitTarget
from seenn.exits.registry import register_policy
from seenn.exits.rules.gap import GapExit

_TOLERANCES = torch.linspace(0, 1, 257, dtype=torch.float64) ** 2  # ε, finer where it is small


@register_policy("cutoff")
@dataclass(frozen=True, kw_only=True)
class CutoffExit(GapExit):
    """Cutoff (arXiv:2301.09522): a gap with thresholds β_t that all follow from one tolerance ε.

    β_t(ε) is the smallest β with ``P(OCT <= t | gap_t > β) >= 1 - ε`` on a third of the samples, where OCT is the
    first t from which on a sample stays right. The paper has the user choose ε; here the other two thirds do.
    """

    summary: ClassVar[str] = "the best class leads by enough, with a threshold for every timestep"
    learned: ClassVar[tuple[str, ...]] = ("threshold",)

    def calibrate(self, run: CachedRun, target: ExitTarget) -> ExitCalibration[Self]:
        """With the thresholds of the tolerance that meets ``target`` best.

        Raises:
            ValueError: no target, or a guarantee: for that use ``GapExit``.
            CalibrationError: a target that no ε meets; the message names the nearest.
        """
        if not target.given or target.guaranteed:
            raise ValueError(
                "cutoff finds one threshold per timestep for max_accuracy_drop, target_timesteps or target_energy; "
                "with a threshold or a confidence use the gap rule"
            )
        fit, rest = fit_split(len(run), run.groups)
        thresholds = cutoff_thresholds(self, run[fit]).flip(0)  # [E, T-1], boldest first
        run = run[rest]
        scores = run.scores(self)
        # A larger tolerance lowers every threshold: from one row to the next no sample stops earlier.
        curve = run.choices(torch.stack([first_above(scores, row) for row in thresholds]))
        chosen = thresholds[target.best_point(curve, self.kind)]
        return run.judged(self.at(tuple(chosen.tolist())) if len(chosen) else self)


def cutoff_thresholds(policy: GapExit, run: CachedRun) -> Tensor:
    """β_t(ε) for every tolerance and exit point but the last, float64 ``[E, T-1]``; the first row never stops early."""
    settled = run.correct().flip(0).cummin(dim=0).values.flip(0)[:-1]  # OCT <= t
    gaps, order = run.scores(policy)[:-1].double().sort(dim=1, descending=True)
    counts = torch.arange(1, gaps.shape[1] + 1, dtype=torch.float64)
    share = settled.gather(1, order).double().cumsum(1) / counts  # of the i largest gaps
    below = torch.cat([gaps[:, 1:], gaps.new_full((len(gaps), 1), policy.least)], dim=1)
    rows = []
    for tolerance in _TOLERANCES.tolist():
        passes = share >= 1 - tolerance - 1e-12
        last = torch.where(passes, counts, 0).amax(1).long()  # how many may stop
        threshold = below.gather(1, (last - 1).clamp(min=0)[:, None]).squeeze(1)
        rows.append(threshold.masked_fill(last == 0, policy.never))
    never = torch.full((1, len(gaps)), policy.never, dtype=torch.float64)
    return torch.cat([never, torch.stack(rows)])
