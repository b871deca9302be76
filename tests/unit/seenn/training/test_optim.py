"""The learning-rate schedule and the parameter groups."""

from __future__ import annotations

import math

import pytest
from torch import nn

from seenn.training import OptimConfig, build_optimizer


def test_weight_decay_spares_biases_and_norm_scales() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    decayed, spared = build_optimizer(module, OptimConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert [p.shape for p in decayed["params"]] == [(4, 3)]
    assert spared["weight_decay"] == 0.0
    assert len(spared["params"]) == 3


def test_frozen_parameters_are_left_out() -> None:
    module = nn.Linear(3, 4)
    module.bias.requires_grad_(False)
    groups = build_optimizer(module, OptimConfig(opt="adamw")).param_groups
    assert [p.shape for group in groups for p in group["params"]] == [(4, 3)]


def test_learning_rate_warms_up_linearly_peaks_and_falls_by_a_cosine() -> None:
    config = OptimConfig(lr=2.0, warmup_fraction=0.4)
    rates = [config.lr_at(step, 10) for step in range(10)]
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[5:] == pytest.approx([1 + math.cos(math.pi * i / 6) for i in range(1, 6)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"opt": "adam"}, "opt must be one of sgd, adamw, got 'adam'"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": math.inf}, "lr must be positive and finite"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"warmup_fraction": 1.0}, r"warmup_fraction must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(**wrong)  # type: ignore[arg-type]
