"""Cutoff: a gap for every timestep, all from one tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits.calibrate import ExitCalibration, check_exit_split, fit_split, judge_exit
from seenn.exits.gap import GapExit
from seenn.exits.policy import register_policy
from seenn.exits.scored import exit_scores, first_above
from seenn.metrics.accuracy import correct_per_timestep

_TOLERANCES = torch.linspace(0, 1, 257, dtype=torch.float64) ** 2  # ε, finer where it is small


@register_policy("cutoff")
@dataclass(frozen=True, kw_only=True)
class CutoffExit(GapExit):
    """Cutoff (arXiv:2301.09522): a gap with thresholds β_t that ``calibrate_cutoff`` finds from one ε."""


def calibrate_cutoff(
    logits_sum: Tensor,
    labels: Tensor,
    policy: CutoffExit,
    *,
    max_accuracy_drop: float | None = None,
    target_timesteps: float | None = None,
    target_energy: float | None = None,
    energy_pj: Tensor | None = None,
) -> ExitCalibration[CutoffExit]:
    """The ε whose thresholds meet the target best; arguments as for ``calibrate_exit``, exactly one target.

    β_t(ε) is the smallest β with ``P(OCT <= t | gap_t > β) >= 1 - ε`` on a third of the samples, where OCT is the
    first t from which on a sample stays right. The paper has the user choose ε; here the other two thirds do.

    Raises:
        CalibrationError: unusable data, or a target that no ε meets; the message names the nearest.
    """
    check_exit_split(logits_sum, labels)
    fit, rest = fit_split(len(labels))
    thresholds = cutoff_thresholds(policy, logits_sum[:, fit], labels[fit])  # [E, T-1]
    logits_sum, labels = logits_sum[:, rest], labels[rest]
    energy_pj = None if energy_pj is None else energy_pj[:, rest]
    scores, correct = exit_scores(policy, logits_sum), correct_per_timestep(logits_sum, labels)
    exits = torch.stack([first_above(scores, row) for row in thresholds])  # [E, N], counted from 0
    accuracy = correct.gather(0, exits).double().mean(1)
    if max_accuracy_drop is not None:
        allowed = accuracy >= float(correct[-1].double().mean()) - max_accuracy_drop - 1e-12
        cost, limit, unit = exits.double().mean(1) + 1, None, ""
    else:
        steps = target_timesteps is not None
        limit, unit = (target_timesteps, "timesteps") if steps else (target_energy, "pJ per image")
        if limit is None or (not steps and energy_pj is None):
            raise ValueError(
                "cutoff needs one of max_accuracy_drop, target_timesteps, and target_energy with energy_pj"
            )
        spent = exits.double() + 1 if energy_pj is None or steps else energy_pj.gather(0, exits)
        cost, allowed = -accuracy, spent.mean(1) <= limit
        least, most = float(spent.mean(1).min()), float(spent.mean(1).max())
        if not least <= limit <= most:
            raise CalibrationError(
                f"no tolerance of the cutoff rule gives a mean of {limit:.6g} {unit}: it can give {least:.6g} to "
                f"{most:.6g}, and the nearest is {min(max(limit, least), most):.6g}; ask for that, or use another rule"
            )
    chosen = int(cost.masked_fill(~allowed, torch.inf).argmin())
    found = policy.at(tuple(thresholds[chosen].tolist())) if thresholds.shape[1] else policy
    return judge_exit(logits_sum, labels, found, energy_pj=energy_pj)


def cutoff_thresholds(policy: GapExit, logits_sum: Tensor, labels: Tensor) -> Tensor:
    """β_t(ε) for every tolerance and t = 1 … T-1, float64 ``[E, T-1]``; the first row never stops early."""
    correct = correct_per_timestep(logits_sum, labels)
    settled = correct.flip(0).cummin(dim=0).values.flip(0)[:-1]  # OCT <= t
    gaps, order = exit_scores(policy, logits_sum)[:-1].double().sort(dim=1, descending=True)
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
