"""Finds the earliest exit that keeps the accuracy, on one set of images, and checks it on another.

    python examples/exit_with_target.py

You learn to turn «at most so many points below all T steps» into an exit threshold, and why the figure to report is
the one of the test split: a threshold chosen on the exit split meets its target there by construction.
"""

from __future__ import annotations

import torch

import seenn
from converter import convert
from converter.load import ModelSpec, build_model
from seenn.analysis.collect import collect_run
from seenn.data import load_data
from seenn.exits import find_exit
from seenn.training import TrainConfig, train_ann

torch.manual_seed(0)
splits = load_data("digits")
test = splits.test.batch()
ann = build_model(ModelSpec(name="resnet18", kwargs={"channels": (8, 16, 32, 64)}, num_classes=10), (1, 8, 8))
train_ann(ann.module, splits, TrainConfig(epochs=5))
snn = convert(ann, splits, timesteps=8)


def right(answers: seenn.Predictions) -> float:
    """Percent of the test images."""
    return 100 * float((answers.labels == test.labels).double().mean())


full = snn.predict(test)
print(f"without exits: {right(full):.2f} % of {len(full)} test images at {snn.timesteps} steps")

# One pass without exits over the exit split: every threshold can then be judged without running again.
# `snn.calibrate_exit(splits.exit, max_accuracy_drop=0.005)` does both for one target.
run = collect_run(snn.network, splits.exit, snn.timesteps)
for drop in (0.0, 0.005, 0.02):
    found = find_exit(run, seenn.ConfidenceExit(), max_accuracy_drop=drop)
    answers = snn.predict(test, policy=found.policy)  # images really leave early
    print(
        f"at most {100 * drop:.1f} points lost: threshold {found.policy.threshold:.4f}; "
        f"exit split {100 * found.accuracy:.2f} % at {found.mean_timesteps:.2f} steps; "
        f"test split {right(answers):.2f} % at {answers.exit_timestep.double().mean():.2f} steps"
    )
