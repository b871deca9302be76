"""The loop: steps, divergence, the best epoch, repeatability, and data that cannot be trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import forked
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seenn.batch import Batch
from seenn.data import DataSplits, Split
from seenn.distributed import World
from seenn.errors import DataError, TrainingError
from seenn.training import LossFn, OptimConfig, TrainConfig, TrainingResult, fit
from seenn.training.loop import check_data


def cross_entropy(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
    return F.cross_entropy(module(batch.inputs), batch.known_labels)


Train = Callable[..., TrainingResult]


@pytest.fixture
def run(digits: DataSplits, classifier: Callable[[], nn.Module]) -> Train:
    def train(
        module: nn.Module | None = None,
        loss: LossFn = cross_entropy,
        splits: DataSplits = digits,
        validate: Callable[[nn.Module], float] | None = None,
        on_step: Callable[[int, int], None] | None = None,
        **config: Any,
    ) -> TrainingResult:
        settings = TrainConfig(**{"epochs": 1, "batch_size": 100, **config})
        return fit(module or classifier(), loss, splits, settings, validate=validate, on_step=on_step)

    return train


def test_progress_counts_every_step_and_incomplete_batches_are_left_out(run: Train, digits: DataSplits) -> None:
    steps: list[tuple[int, int]] = []
    run(epochs=2, on_step=lambda done, total: steps.append((done, total)))
    total = 2 * (len(digits.train) // 100)
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_the_last_epoch_may_be_a_part_of_one(run: Train, digits: DataSplits) -> None:
    steps: list[int] = []
    result = run(epochs=1.5, on_step=lambda done, total: steps.append(done))
    per_epoch = len(digits.train) // 100
    assert len(steps) == round(1.5 * per_epoch)
    assert [report.epoch for report in result.epochs] == [1, 2]
    assert {report.epochs for report in result.epochs} == {2}


def test_every_epoch_sees_each_image_once_in_another_order(run: Train, digits: DataSplits) -> None:
    seen: list[list[float]] = []

    def watch(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        seen.append(batch.inputs.double().sum((1, 2, 3)).tolist())
        return cross_entropy(module, batch, shared)

    run(loss=watch, epochs=2, batch_size=len(digits.train))
    assert sorted(seen[0]) == sorted(seen[1])
    assert seen[0] != seen[1]


def test_best_epoch_is_kept_and_the_later_of_equals(run: Train) -> None:
    scores, states = iter([0.5, 0.9, 0.9, 0.1]), []

    def validate(module: nn.Module) -> float:
        assert not module.training
        states.append(module.get_parameter("5.weight").detach().clone())
        return next(scores)

    result = run(validate=validate, epochs=4)
    assert result.best.epoch == 3
    assert torch.equal(result.module.get_parameter("5.weight"), states[2])


def test_the_global_random_state_is_put_back(run: Train, classifier: Callable[[], nn.Module]) -> None:
    module = classifier()
    before = torch.get_rng_state()
    run(module)
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast_computes_in_bfloat16_and_keeps_weights_in_float32(run: Train) -> None:
    seen: set[torch.dtype] = set()

    def loss(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        logits = module(batch.inputs)
        seen.add(logits.dtype)
        return F.cross_entropy(logits, batch.known_labels)

    result = run(loss=loss, amp=True, epochs=2)
    assert seen == {torch.bfloat16}
    assert {value.dtype for value in result.module.parameters()} == {torch.float32}
    assert result.best.accuracy > 0.5


STRIDED = """
import torch
from torch import nn
from torch.nn import functional as F
from seenn.batch import Batch
from seenn.core.ops import Conv2d
from seenn.training.layout import fastest_layout, placed

torch.manual_seed(0)
for layer in (nn.Conv2d(8, 8, 1, stride=2), Conv2d(torch.randn(8, 3, 1, 1), stride=(1, 2)), nn.Conv2d(16, 8, 1, 2)):
    for side in (56, 64, 112):
        module = nn.Sequential(nn.Conv2d(3, layer.weight.shape[1], 3, padding=1), layer)
        layout = fastest_layout(module)
        batch = placed(Batch(torch.randn(8, 3, side, side), torch.zeros(8)), "cpu", layout)
        module.to(memory_format=layout)(batch.inputs).square().mean().backward()
print(fastest_layout(module))
"""


def test_layers_whose_gradient_crashes_with_channels_last_are_trained_without() -> None:
    done = forked.run("-c", STRIDED)
    assert (done.returncode, done.stdout) == (0, "torch.channels_last\n"), done.stderr


def test_a_model_without_parameters_is_refused(run: Train) -> None:
    with pytest.raises(TrainingError, match="nothing to train: no parameter of the model requires a gradient"):
        run(nn.Flatten())


def test_interrupt_passes_through(run: Train) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_step=interrupt)


def test_a_layer_whose_output_is_not_finite_is_named_with_the_step(
    run: Train, classifier: Callable[[], nn.Module]
) -> None:
    module = classifier()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    calls = iter(range(100))

    def poison(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        if next(calls) == 2:
            with torch.no_grad():
                module.get_parameter("1.weight")[0] = float("nan")
        return cross_entropy(module, batch, shared)

    place = (
        r"step 3 of 8: the loss is nan \(learning rate .*\); the first output .* layer 1, whose weight is not finite"
    )
    with pytest.raises(TrainingError, match=place):
        run(module, loss=poison)
    assert not torch.equal(module.state_dict()["5.weight"], before["5.weight"])


def test_a_loss_that_breaks_by_itself_is_said_to_do_so(run: Train) -> None:
    def broken(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        return cross_entropy(module, batch, shared) / 0.0

    with pytest.raises(TrainingError, match=r"the loss is inf .*every layer's output is finite, so it is the loss"):
        run(loss=broken)


class Few(Split):
    """A split of a few labels."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.labels)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": Few([]), "calibration": Few([])}, "the train and the calibration split is empty"),
        (
            {"train": Few([0, 1, 0])},
            "a batch of 100 is larger than the train split of 3 images: give a smaller --batch-size",
        ),
        ({"train": Few([3] * 200)}, "all 200 images of the train split have the label 3: there is nothing to tell"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    run: Train, digits: DataSplits, splits: dict[str, Split], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(splits=replace(digits, **splits))


def test_a_batch_that_does_not_divide_among_the_processes_is_refused(digits: DataSplits) -> None:
    with pytest.raises(DataError, match="a batch of 64 does not divide among 3 processes; use a multiple of 3"):
        check_data(digits, 64, World(0, 3))


@pytest.mark.parametrize("state", [torch.no_grad, torch.inference_mode])
def test_training_computes_gradients_whatever_the_caller_asked_for(
    run: Train, classifier: Callable[[], nn.Module], state: Callable[[], AbstractContextManager[None]]
) -> None:
    module = classifier()
    expected = run(copy.deepcopy(module)).epochs[-1].loss
    with state():
        assert run(module).epochs[-1].loss == expected


def test_weights_that_are_absurd_after_the_last_step_are_refused(run: Train) -> None:
    with pytest.raises(TrainingError, match=r"step 1 of 1: the training has diverged, its largest weight is .*e\+2"):
        run(epochs=1e-9, optim=OptimConfig(lr=1e30, warmup_fraction=0.0))
