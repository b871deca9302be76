"""Cutoff: thresholds by their definition, and targets met on samples that did not fit them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits import (
    CachedRun,
    ConfidenceExit,
    CutoffExit,
    FixedExit,
    Progress,
    calibrate_exit,
    exit_scores,
    find_exit,
    replay,
)
from seenn.exits.rules.cutoff import cutoff_thresholds

T, N, K = 5, 900, 4


def cached() -> CachedRun:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, K, (N,), generator=random)
    signal = 2 * torch.rand(N, 1, generator=random) * torch.nn.functional.one_hot(labels, K)
    logits = (signal + torch.randn(T, N, K, generator=random)).cumsum(0)
    energy = (1 + torch.rand(T, N, generator=random, dtype=torch.float64)).cumsum(0)
    return CachedRun(logits_sum=logits, labels=labels, energy_pj=energy)


def test_each_threshold_is_the_smallest_that_keeps_its_share() -> None:
    run = cached()[torch.arange(60)]
    found = cutoff_thresholds(CutoffExit(), run)
    gaps = exit_scores(CutoffExit(), run.logits_sum).double()
    right = run.logits_sum.argmax(-1) == run.labels
    tolerances = [None, *(torch.linspace(0, 1, 257, dtype=torch.float64) ** 2).tolist()]
    for row in (0, 1, 40, 80, 120, 257):
        for t in range(T - 1):
            tolerance = tolerances[row]
            settled = right[t:].all(0)

            def keeps(beta: float, t: int = t, settled: Tensor = settled, tolerance: Any = tolerance) -> bool:
                above = gaps[t] > beta
                return bool(above.any()) and float(settled[above].double().mean()) >= 1 - tolerance - 1e-9

            candidates = sorted([CutoffExit.least, *gaps[t].tolist()])
            smallest = CutoffExit.never if tolerance is None else next(filter(keeps, candidates), CutoffExit.never)
            assert found[row, t].item() == smallest


@pytest.mark.parametrize(
    "target",
    [{"max_accuracy_drop": 0.02}, {"target_timesteps": 2.5}, {"target_energy": 4.0}],
    ids=lambda t: next(iter(t)),
)
def test_it_meets_its_target_with_a_threshold_for_every_timestep(target: dict[str, float]) -> None:
    run = cached()
    found = find_exit(run, CutoffExit(), **target)
    assert isinstance(found.policy, CutoffExit)
    assert isinstance(found.policy.threshold, tuple)
    assert len(set(found.policy.threshold)) > 1
    assert found.samples == 600
    if "max_accuracy_drop" in target:
        assert found.accuracy >= found.full_accuracy - 0.02 - 1e-9
        assert found.mean_timesteps < T
    assert found.mean_timesteps <= target.get("target_timesteps", T)
    assert found.mean_energy_pj is not None
    assert found.mean_energy_pj <= target.get("target_energy", torch.inf)


def test_targets_out_of_its_reach_name_the_nearest() -> None:
    run = cached()
    with pytest.raises(CalibrationError, match=r"threshold of the cutoff rule gives a mean of 0.5 pJ .* nearest is"):
        find_exit(run, CutoffExit(), target_energy=0.5)
    with pytest.raises(ValueError, match="cutoff finds one threshold per timestep for max_accuracy_drop"):
        calibrate_exit(run.logits_sum, run.labels, CutoffExit())


@pytest.mark.parametrize("rule", [ConfidenceExit(), FixedExit()])
def test_a_mean_energy_is_kept_and_used(rule: Any) -> None:
    run = cached()
    found = find_exit(run, rule, target_energy=5.0)
    exits = replay(found.policy, run.logits_sum)
    spent = run.energy_pj[exits - 1, torch.arange(N)].mean().item()
    assert found.mean_energy_pj == pytest.approx(spent)
    assert spent <= 5.0
    more = find_exit(run, rule, target_energy=6.5)
    assert more.accuracy >= found.accuracy
    full = run.energy_pj[-1].mean().item()
    assert find_exit(run, rule, target_energy=full).mean_energy_pj <= full  # type: ignore[operator]
    message = r"rule gives a mean of 100 pJ per image: it can give [\d.]+ to ([\d.]+) pJ, and the nearest is \1; ask"
    with pytest.raises(CalibrationError, match=message):
        find_exit(run, rule, target_energy=100.0)
    with pytest.raises(CalibrationError, match=r"it can give ([\d.]+) to [\d.]+ pJ, and the nearest is \1; ask"):
        find_exit(run, rule, target_energy=0.1)


def test_what_has_no_threshold_cannot_be_calibrated() -> None:
    class AtOnce:
        kind = "at-once"

        def start(self, inputs: Tensor) -> State:
            return ()

        def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
            return progress.t >= 1, state

        def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
            return torch.ones(len(progress))

    with pytest.raises(CalibrationError, match="the at-once policy has no threshold to calibrate: derive it"):
        find_exit(cached(), AtOnce(), target_timesteps=2.0)
