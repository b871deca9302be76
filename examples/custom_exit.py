"""An exit rule of your own: ten lines, calibrated like every other, and stored in the checkpoint by its name.

    python examples/custom_exit.py

From the command line the rule is known by its name once this file is imported, which runs it:
``seenn calibrate-exit --plugin custom_exit --policy margin --max-accuracy-drop 0.005``, and again with
``seenn evaluate --plugin custom_exit``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

import seenn
from seenn.exits import Progress, State


@seenn.register_policy("margin")
@dataclass(frozen=True, kw_only=True)
class MarginExit(seenn.ThresholdExit):
    """Stop once the best class leads the mean of all others by more than ``threshold``."""

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        best = logits_sum.amax(-1)
        return best - (logits_sum.sum(-1) - best) / (logits_sum.shape[-1] - 1), state


def main() -> None:
    """Trains and converts a small network, and lets the rule stop it."""
    from converter import convert
    from converter.load import ModelSpec, build_model
    from seenn.data import load_data
    from seenn.training import TrainConfig, train_ann

    splits = load_data("digits")
    spec = ModelSpec(name="resnet18", kwargs={"channels": (8, 8, 16, 16), "layers": (1, 1, 1, 1)}, num_classes=10)
    ann = build_model(spec, (1, 8, 8))
    train_ann(ann.module, splits, TrainConfig(epochs=4))
    snn = convert(ann, splits).calibrate_exit(splits.exit, MarginExit(), max_accuracy_drop=0.005)
    found = snn.evaluate(splits.test)
    print(f"{snn.policy}: {100 * found.accuracy:.2f} % after {found.exit.mean:.2f} steps")


if __name__ == "__main__":
    main()
