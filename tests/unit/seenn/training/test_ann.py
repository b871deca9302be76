"""Training a small classifier on the digits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import nn

from seenn.data import DataSplits, Split, load_data
from seenn.errors import DataError
from seenn.training import Augment, OptimConfig, TrainConfig, TrainingResult, train_ann
from seenn.training.ann import accuracy


@functools.cache
def digits() -> DataSplits:
    return load_data("digits")


def train(seed: int = 0, **options: Any) -> TrainingResult:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    callbacks: dict[str, Callable[..., None]] = {
        key: options.pop(key) for key in ("on_epoch", "on_step") if key in options
    }
    splits = options.pop("splits", digits())
    return train_ann(module, splits, TrainConfig(**{"epochs": 2, "seed": seed, **options}), **callbacks)


def test_digits_are_learnt_and_the_result_is_the_best_epoch_in_eval_mode() -> None:
    result = train(epochs=4)
    assert result.best.accuracy > 0.85
    assert result.best.accuracy == max(report.accuracy for report in result.epochs)
    assert accuracy(result.module, digits().calibration) == result.best.accuracy
    assert not result.module.training


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    augment = Augment(flip=True, shift=1)
    first, again, other = (train(seed, augment=augment).module.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["4.weight"], other["4.weight"])


def test_exit_and_test_splits_are_never_looked_at() -> None:
    absent = cast(Split, None)
    result = train(splits=replace(digits(), exit=absent, test=absent))
    assert len(result.epochs) == 2


def test_progress_counts_every_step_and_incomplete_batches_are_left_out() -> None:
    steps: list[tuple[int, int]] = []
    train(batch_size=100, on_step=lambda done, total: steps.append((done, total)))
    total = 2 * (len(digits().train) // 100)
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_one_batch_may_hold_the_whole_split() -> None:
    assert len(train(batch_size=10_000).epochs) == 2


def test_interrupt_passes_through() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(on_epoch=interrupt)


def test_empty_splits_are_refused_together() -> None:
    empty = cast(Split, [])
    with pytest.raises(DataError, match="the train and the calibration split is empty"):
        train(splits=replace(digits(), train=empty, calibration=empty))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)


def test_configuration_is_recorded_as_json_values() -> None:
    record = TrainConfig(optim=OptimConfig(lr=0.2), augment=Augment(shift=1)).to_record()
    assert record["optim"]["lr"] == 0.2
    assert record["augment"] == {"flip": False, "shift": 1}
