"""Training a small classifier on the digits."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

from seenn.batch import Batch
from seenn.core.ops import QCFS
from seenn.data import DataSplits, Split
from seenn.errors import TrainingError
from seenn.training import Augment, OptimConfig, TrainConfig, TrainingResult, accuracies, train_ann

Train = Callable[..., TrainingResult]


@pytest.fixture
def train(digits: DataSplits, classifier: Callable[[], nn.Module]) -> Train:
    def run(
        seed: int = 0,
        splits: DataSplits = digits,
        teacher: nn.Module | None = None,
        distil: float = 0.0,
        **options: Any,
    ) -> TrainingResult:
        config = TrainConfig(**{"epochs": 2, "seed": seed, **options})
        return train_ann(classifier(), splits, config, teacher=teacher, distil=distil)

    return run


def test_digits_are_learnt_and_the_result_is_the_best_epoch_in_eval_mode(train: Train, digits: DataSplits) -> None:
    result = train(epochs=4)
    assert result.best.accuracy > 0.85
    assert result.best.accuracy == max(report.accuracy for report in result.epochs)
    assert accuracies(result.module, digits.calibration) == (result.best.accuracy,)
    assert not result.module.training


def test_a_model_that_ends_in_a_softmax_is_refused(digits: DataSplits, classifier: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(classifier(), nn.Softmax(1))
    with pytest.raises(TrainingError, match="the model ends in a softmax, which the loss takes itself: let it return"):
        train_ann(model, digits, TrainConfig(epochs=1))


def test_thresholds_learn_and_are_plain_parameters_again_afterwards(train: Train) -> None:
    module = train().module
    assert isinstance(qcfs := module.get_submodule("2"), QCFS)
    assert isinstance(qcfs.v_threshold, torch.nn.Parameter)
    assert bool((qcfs.v_threshold != 4.0).all())
    assert bool((qcfs.v_threshold > 0).all())
    assert "2.v_threshold" in module.state_dict()


def test_averaged_weights_are_what_is_kept(train: Train, digits: DataSplits) -> None:
    plain, averaged = train(), train(ema=0.9)
    assert not torch.equal(plain.module.state_dict()["0.weight"], averaged.module.state_dict()["0.weight"])
    assert accuracies(averaged.module, digits.calibration)[0] == averaged.best.accuracy > 0.5


def test_a_transform_may_mix_the_labels(train: Train) -> None:
    def mix(batch: Batch, generator: torch.Generator) -> Batch:
        share, images = torch.rand((), generator=generator), batch.inputs
        target = torch.nn.functional.one_hot(batch.known_labels, 10).float()
        return Batch(share * images + (1 - share) * images.flip(0), share * target + (1 - share) * target.flip(0))

    assert train(epochs=4, transform=mix).best.accuracy > 0.6


def test_a_teacher_is_imitated_and_left_as_it_is(train: Train, digits: DataSplits) -> None:
    teacher = train(epochs=4).module
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    wrong = copy(digits.train)
    wrong.labels = (wrong.labels + 1) % 10
    taught = replace(digits, train=wrong)
    alone, led = train(splits=taught, epochs=4), train(splits=taught, epochs=4, teacher=teacher, distil=1.0)
    assert alone.best.accuracy < 0.2
    assert led.best.accuracy > 0.85
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    with pytest.raises(ValueError, match=r"distil must be in \[0, 1\], and 0 without a teacher, got 0.5"):
        train(distil=0.5)


def test_same_seed_gives_the_same_weights_and_another_seed_others(train: Train) -> None:
    augment = Augment(flip=True, shift=1)
    first, again, other = (train(seed, augment=augment).module.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["5.weight"], other["5.weight"])


class Sealed(Split):
    """A split that nobody may read."""

    def __init__(self, split: Split) -> None:
        self.__dict__.update(vars(split))

    def batches(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError(f"the {self.name} split was read")

    batch = images = raw = digests = batches


def test_exit_and_test_splits_are_never_looked_at(train: Train, digits: DataSplits) -> None:
    sealed = replace(digits, exit=Sealed(digits.exit), test=Sealed(digits.test))
    with pytest.raises(AssertionError, match="the exit split was read"):
        sealed.exit.images()
    result = train(splits=sealed)
    assert len(result.epochs) == 2


def test_configuration_is_recorded_as_json_values() -> None:
    record = TrainConfig(optim=OptimConfig(lr=0.2), augment=Augment(shift=1)).to_record()
    assert record["optim"]["lr"] == 0.2
    assert record["augment"] == {"flip": False, "shift": 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be positive and finite, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"ema": 1.0}, r"ema must be in \(0, 1\), got 1.0"),
        ({"validation_images": 0}, "validation_images must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)
