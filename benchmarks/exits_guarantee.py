"""Whether Learn-then-Test keeps its guarantee on real logits: many random splits, each with the rule chosen anew."""

from __future__ import annotations

import torch
from bars import Row
from torch import Tensor

from seenn.exits import CachedRun, ConfidenceExit, Guarantee, find_exit, first_above
from seenn.exits.calibration.replay import FIT_FRACTION
from seenn.exits.guarantees.learn_then_test import certified_thresholds

DROP, DELTA = 0.01, 0.05


def guarantee_rows(run: CachedRun, trials: int, command: str) -> tuple[list[Row], list[str]]:
    """How often the drop on the half that chose nothing stays within ``DROP``, in % of the trials."""
    policy = ConfidenceExit()
    scores, correct = run.scores(policy), run.correct()
    half = len(run.labels) // 2
    held = {"marginal": 0, "conditional": 0, "uncorrected": 0}
    steps = dict.fromkeys(held, 0.0)
    for trial in range(trials):
        order = torch.randperm(len(run.labels), generator=torch.Generator().manual_seed(trial))
        chosen, fresh = order[:half], order[half:]
        fit, test = chosen.tensor_split([round(half * FIT_FRACTION)])
        found: dict[str, Tensor] = {}
        guarantees: tuple[Guarantee, ...] = ("marginal", "conditional")
        for guarantee in guarantees:
            found[guarantee] = certified_thresholds(
                scores, correct, policy, fit, test, margin=DROP, delta=DELTA, guarantee=guarantee
            )
        plain = find_exit(run[chosen], policy, max_accuracy_drop=DROP)
        assert isinstance(plain.policy.threshold, float)
        found["uncorrected"] = torch.full((len(scores) - 1,), plain.policy.threshold, dtype=torch.float64)
        for name, thresholds in found.items():
            drops, mean = _drops(scores[:, fresh], correct[:, fresh], thresholds, run.cost)
            held[name] += bool((drops if name == "conditional" else drops[-1:]).max() <= DROP)
            steps[name] += mean / trials
    bar = 100 * (1 - DELTA)
    rows = [
        Row.at_least(
            f"Learn-then-Test, {name}: % of {trials} random splits that keep the guarantee",
            100 * held[name] / trials,
            bar,
            command,
        )
        for name in ("marginal", "conditional")
    ]
    rows.append(
        Row(
            f"no correction: % of {trials} random splits that keep it",
            100 * held["uncorrected"] / trials,
            None,
            True,
            command,
        )
    )
    note = (
        f"Guarantee: at most {100 * DROP:g} points below full T with confidence {bar:g} %. Each trial chooses on "
        f"{half:,} random images of the exit split and is judged on the other {len(run.labels) - half:,}, whose own "
        "chance counts against it (conditional: judged at every exit by which somebody stopped, however few). Mean "
        "cost in timesteps: " + ", ".join(f"{name} {value:.2f}" for name, value in steps.items()) + "."
    )
    return rows, [note]


def _drops(scores: Tensor, correct: Tensor, thresholds: Tensor, cost: Tensor) -> tuple[Tensor, float]:
    """Accuracy lost among those that stopped by each exit point (0 where nobody had), and the mean cost."""
    exits = first_above(scores, thresholds)
    loss = correct[-1].double() - correct.gather(0, exits[None])[0].double()
    lost = torch.zeros(len(scores), dtype=torch.float64).index_add_(0, exits, loss).cumsum(0)
    count = exits.bincount(minlength=len(scores)).cumsum(0)
    return lost / count.clamp(min=1), float(cost[exits].mean())
