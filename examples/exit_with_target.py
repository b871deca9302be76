"""Finds the earliest exit that keeps the accuracy, on one set of images, and checks it on another.

    python examples/exit_with_target.py

You learn to turn «at most so many points below all T steps» into an exit threshold, and why the figure to report is
the one of the test split: a threshold chosen on the exit split meets its target there by construction.
"""

from __future__ import annotations

import torch

import seenn
from converter import ConvertConfig, convert
from converter.load import ModelSpec, build_model
from seenn.data import load_data
from seenn.exits import calibrate_exit
from seenn.training import TrainConfig, train_ann

TIMESTEPS = 8

torch.manual_seed(0)
splits = load_data("digits")
spec = ModelSpec(name="resnet18", kwargs={"channels": (32, 64, 128, 256)}, num_classes=splits.num_classes)
ann = build_model(spec, (1, 8, 8)).module
train_ann(ann, splits, TrainConfig(epochs=5))

network = convert(ann, splits.calibration.images(), ConvertConfig(timesteps=TIMESTEPS)).network

# One pass without exits over the exit split: every threshold can then be judged without running again.
logits_sum, labels = seenn.collect_logits(network, splits.exit.batches(64), TIMESTEPS)
full = seenn.predict(network, splits.test.images(), timesteps=TIMESTEPS)
full_accuracy = 100 * float((full.labels == splits.test.labels).double().mean())
print(f"without exits: {full_accuracy:.2f} % of {len(full)} test images at {TIMESTEPS} steps")

for drop in (0.0, 0.005, 0.02):
    found = calibrate_exit(logits_sum, labels, seenn.ConfidenceExit(), max_accuracy_drop=drop)
    answers = seenn.predict(network, splits.test.images(), found.policy, TIMESTEPS)  # images really leave early
    accuracy = 100 * float((answers.labels == splits.test.labels).double().mean())
    steps = float(answers.exit_timestep.double().mean())
    print(
        f"at most {100 * drop:.1f} points lost: threshold {found.policy.threshold:.4f}; "
        f"exit split {100 * found.accuracy:.2f} % at {found.mean_timesteps:.2f} steps; "
        f"test split {accuracy:.2f} % at {steps:.2f} steps"
    )
