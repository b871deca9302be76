"""SEENN-I and SEENN-II on a network for few timesteps, with the policy network's cost left out and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click
import torch
from bars import Row
from torch import Tensor

from converter import train_policy
from converter.policy import SpikingAnswers
from seenn.analysis.collect import start_states
from seenn.data import DataSplits, Split
from seenn.errors import CalibrationError
from seenn.exits import BudgetExit, CachedRun, ConfidenceExit, ExitCalibration, exit_scores, find_exit, replay
from seenn.metrics import bootstrap_mean_interval, correct_per_timestep, exit_curve, oracle_exit_time
from seenn.metrics.energy import MAC_PJ
from seenn.snn import SNN
from seenn.training import PolicyConfig
from seenn.training.augment import Augment

MOST_STEPS, ALLOWED = 1.3, 0.5


def low_rows(
    snn: SNN,
    splits: DataSplits,
    train: CachedRun,
    held: CachedRun,
    test: CachedRun,
    command: str,
    *,
    betas: Sequence[float],
    epochs: float,
) -> tuple[list[Row], list[str]]:
    """β and thresholds are chosen on the exit split, figures are of the test split."""
    answers = SpikingAnswers(train=_right(train), exit=_right(held))
    trained = {beta: _train(snn, splits, answers, beta, epochs) for beta in betas}
    moved = {beta: _within(held, run.policy, splits.exit) for beta, run in trained.items()}
    beta = max(moved, key=lambda beta: moved[beta].accuracy)
    policy, mean = moved[beta].policy, moved[beta].mean_timesteps
    right = _right(test)
    timesteps, samples = right.shape
    full = 100 * float(right[-1].double().mean())
    n = torch.arange(samples)

    two = replay(policy, test.logits_sum, start_states(policy, splits.test, limit=samples))
    one = replay(find_exit(held, ConfidenceExit(), target_timesteps=MOST_STEPS).policy, test.logits_sum)
    same = replay(_at_mean(held, ConfidenceExit(), mean), test.logits_sum)
    own_pj = MAC_PJ * policy.macs
    energy = {name: float(test.energy_pj[exits - 1, n].mean()) for name, exits in (("two", two), ("same", same))}
    difference = 100 * (right[two - 1, n].double() - right[same - 1, n].double())
    low, high = bootstrap_mean_interval(difference, seed=0, resamples=1000)
    try:
        priced = replay(find_exit(held, ConfidenceExit(), target_energy=energy["two"] + own_pj).policy, test.logits_sum)
        paid = f"{_percent(right, priced):.2f} % at {_mean(priced):.3f} steps"
    except CalibrationError:  # its cost is more than all T steps: SEENN-I could run them for everyone
        paid = f"{full:.2f} % at all {timesteps} steps"
    rows = [
        Row(f"few timesteps: accuracy at T={timesteps} (%)", full, None, True, command),
        Row.at_most("few timesteps, SEENN-I: mean timesteps", _mean(one), MOST_STEPS, command),
        Row.at_most("few timesteps, SEENN-I: points below full T", full - _percent(right, one), ALLOWED, command),
        Row.at_most("few timesteps, SEENN-II: mean timesteps", _mean(two), MOST_STEPS, command),
        Row.at_most("few timesteps, SEENN-II: points below full T", full - _percent(right, two), ALLOWED, command),
        Row.at_least(
            "SEENN-II over SEENN-I at equal mean timesteps, its cost left out: points (upper end of the 95 % interval)",
            high,
            0.0,
            command,
        ),
        Row(
            "SEENN-II: % of the images that it gives more than one step",
            100 * float((two > 1).double().mean()),
            None,
            True,
            command,
        ),
        Row(
            "SEENN-II's own network: % of the energy up to its exits", 100 * own_pj / energy["two"], None, True, command
        ),
    ]
    notes = [
        f"Few timesteps: T={timesteps}, {samples:,} test images, accuracy at T {full:.2f} %, oracle "
        f"{oracle_exit_time(right):.3f} steps; after t = 1 … T: "
        + ", ".join(f"{100 * a:.2f}" for a in right.double().mean(1).tolist())
        + f" %. SEENN-II learned from {answers.train.shape[1]:,} training images; on {answers.exit.shape[1]:,} exit "
        "images: "
        + "; ".join(
            f"β = {b:g}: {100 * r.result.accuracy:.2f} % at {r.result.mean_cost:.3f} steps as trained, "
            f"{100 * moved[b].accuracy:.2f} % at {moved[b].mean_timesteps:.3f} with its threshold moved to the most "
            f"accurate point within {MOST_STEPS}"
            for b, r in trained.items()
        )
        + f". Chosen there: β = {beta:g}. SEENN-I's most accurate point within {MOST_STEPS} there: "
        f"{_at_most(held, MOST_STEPS)}.",
        f"SEENN-II {_percent(right, two):.2f} % at {_mean(two):.3f} steps; SEENN-I with the threshold that spends "
        f"as many on the exit split: {_percent(right, same):.2f} % at {_mean(same):.3f}, and with its most accurate "
        f"within {MOST_STEPS}: {_percent(right, one):.2f} % at {_mean(one):.3f}. Difference at equal steps "
        f"{float(difference.mean()):+.2f} points [{low:+.2f}, {high:+.2f}] (95 % paired bootstrap). Energy per image: "
        f"SEENN-I {energy['same'] / 1e6:.1f} µJ; SEENN-II {energy['two'] / 1e6:.1f} µJ without its policy network and "
        f"{(energy['two'] + own_pj) / 1e6:.1f} µJ with it ({policy.macs:,} MACs). For that much energy SEENN-I "
        f"reaches {paid}.",
    ]
    return rows, notes


def _train(snn: SNN, splits: DataSplits, answers: SpikingAnswers, beta: float, epochs: float) -> SNN:
    click.echo(f"training SEENN-II, beta {beta:g}", err=True)
    base = PolicyConfig()
    train = replace(base.train, epochs=epochs, augment=Augment.suggest(splits))
    return train_policy(snn, splits, replace(base, beta=beta, train=train), answers=answers)


def _within(held: CachedRun, policy: BudgetExit, split: Split) -> ExitCalibration[BudgetExit]:
    """SEENN-II at its most accurate threshold within ``MOST_STEPS``."""
    state = start_states(policy, split, limit=len(held.labels))
    return find_exit(held, policy, state=state, target_timesteps=MOST_STEPS)


def _at_mean(held: CachedRun, policy: ConfidenceExit, steps: float) -> ConfidenceExit:
    """SEENN-I with the threshold whose mean timesteps on ``held`` are nearest to ``steps``."""
    curve = exit_curve(exit_scores(policy, held.logits_sum), _right(held))
    return policy.at(float(curve.threshold[(curve.mean_timesteps - steps).abs().argmin()]))


def _at_most(run: CachedRun, steps: float) -> str:
    """The best that SEENN-I does on ``run`` itself within a mean number of steps."""
    exits = replay(find_exit(run, ConfidenceExit(), target_timesteps=steps).policy, run.logits_sum)
    return f"{_percent(_right(run), exits):.2f} % at {_mean(exits):.3f}"


def _right(run: CachedRun) -> Tensor:
    return correct_per_timestep(run.logits_sum, run.labels)


def _percent(right: Tensor, exits: Tensor) -> float:
    return 100 * float(right[exits - 1, torch.arange(len(exits))].double().mean())


def _mean(exits: Tensor) -> float:
    return float(exits.double().mean())
