"""The engine: steps, divergence, the best epoch, and repeatability."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seenn.errors import TrainingError
from seenn.training import (
    EpochReport,
    OptimConfig,
    Step,
    build_optimizer,
    run_epochs,
    warmup_cosine,
)
from seenn.training.loop import best_of


def make_step(module: nn.Module, *, lr: float = 0.1) -> Step:
    optimizer = build_optimizer(module, OptimConfig(lr=lr))
    schedule = warmup_cosine(optimizer, total_steps=100, warmup_fraction=0.0)
    return Step(
        module=module,
        loss_fn=lambda m, x, y: F.cross_entropy(m(x), y),
        optimizer=optimizer,
        schedule=schedule,
    )


def one_batch(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield torch.ones(4, 3), torch.tensor([0, 1, 0, 0])


def test_step_lowers_the_loss_on_its_batch() -> None:
    torch.manual_seed(0)
    step = make_step(nn.Linear(3, 2), lr=0.01)
    losses = [step(*next(one_batch(1))) for _ in range(5)]
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert step.taken == 5


def test_loss_that_is_not_finite_stops_with_its_place_and_leaves_the_weights() -> None:
    module = nn.Linear(3, 2)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from one_batch(epoch)
        yield torch.full((1, 3), float("nan") if epoch == 2 else 1.0), torch.zeros(1, dtype=torch.int64)

    place = r"epoch 2 of 3: the loss is nan at step 4 \(learning rate 0\.\d+\); try a lower --lr"
    with pytest.raises(TrainingError, match=place):
        run_epochs(make_step(module), batches, epochs=3, seed=0, validate=lambda m: 0.5)
    assert all(p.isfinite().all() for p in module.parameters())


def test_best_epoch_is_kept_and_the_later_of_equals() -> None:
    module = nn.Linear(3, 2)
    scores = iter([0.5, 0.9, 0.9, 0.1])
    states: list[Tensor] = []

    def validate(m: nn.Module) -> float:
        assert not m.training
        states.append(module.weight.detach().clone())
        return next(scores)

    seen: list[EpochReport] = []
    reports, best = run_epochs(make_step(module), one_batch, epochs=4, seed=0, validate=validate, on_epoch=seen.append)
    assert best_of(reports).epoch == 3
    assert torch.equal(best["weight"], states[2])
    assert seen == reports
    assert [(r.epoch, r.epochs, r.accuracy) for r in reports] == [
        (1, 4, 0.5),
        (2, 4, 0.9),
        (3, 4, 0.9),
        (4, 4, 0.1),
    ]


def test_dropout_repeats_with_the_seed_and_the_global_random_state_is_put_back() -> None:
    def trained(seed: int) -> Tensor:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        run_epochs(make_step(module), one_batch, epochs=2, seed=seed, validate=lambda m: 0.0)
        return module.get_parameter("0.weight").detach()

    first, after_first = trained(1), torch.rand(1)
    again, other, after_other = trained(1), trained(2), torch.rand(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(after_first, after_other)
