"""The engine under every training: epochs of steps, for any module and any loss.

A run is a function of its seed and the epoch number: each epoch seeds its own shuffling, augmentation and
dropout, so that a run can be taken up again at any epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from seenn.errors import TrainingError

LossFn = Callable[[nn.Module, Tensor, Tensor], Tensor]  # module, images, labels -> scalar
Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # epoch (1-based) -> (images, labels)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch did."""

    epoch: int  # 1-based
    epochs: int
    loss: float  # mean over the epoch's images
    accuracy: float  # on the held-out split, in [0, 1]


@dataclass(kw_only=True)
class Step:
    """One optimisation step: forward, loss, backward, update, schedule."""

    module: nn.Module
    loss_fn: LossFn
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    amp: bool = False  # bfloat16 autocast: no loss scaling needed
    taken: int = field(default=0, init=False)

    def __call__(self, images: Tensor, labels: Tensor) -> float:
        """Updates the weights and returns the loss.

        Raises:
            TrainingError: the loss is not finite; nothing was updated.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.amp):
            loss = self.loss_fn(self.module, images, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.taken + 1} (learning rate "
                f"{self.optimizer.param_groups[0]['lr']:.3g}); try a lower --lr or a longer "
                f"warm-up, and check that the images are normalised"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.taken += 1
        return value


def run_epochs(
    step: Step,
    batches: Batches,
    *,
    epochs: int,
    seed: int,
    validate: Callable[[nn.Module], float],
    on_epoch: Callable[[EpochReport], None] | None = None,
    patience: int | None = None,
) -> tuple[list[EpochReport], dict[str, Tensor]]:
    """Trains for ``epochs`` epochs; returns their reports and the state of the best one, on the CPU.

    The best epoch is the one of the highest ``validate``; the later of equals, where the learning rate is
    lower. After ``patience`` epochs in a row that are worse than the best, training stops (early stopping);
    None never does. The global random state is put back afterwards.

    Raises:
        TrainingError: the loss is not finite.
    """
    reports: list[EpochReport] = []
    best: dict[str, Tensor] = {}
    with torch.random.fork_rng():
        for epoch in range(1, epochs + 1):
            torch.manual_seed(epoch_seed(seed, epoch))
            step.module.train()
            loss = _train_epoch(step, batches(epoch), epoch, epochs)
            accuracy = validate(step.module.eval())
            report = EpochReport(epoch=epoch, epochs=epochs, loss=loss, accuracy=accuracy)
            if accuracy >= max((r.accuracy for r in reports), default=0.0):
                best = {name: t.detach().cpu().clone() for name, t in step.module.state_dict().items()}
            reports.append(report)
            if on_epoch is not None:
                on_epoch(report)
            if patience is not None and epoch - best_of(reports).epoch >= patience:
                break
    return reports, best


def best_of(reports: list[EpochReport]) -> EpochReport:
    """The report of the epoch whose state :func:`run_epochs` kept."""
    return max(reports, key=lambda report: (report.accuracy, report.epoch))


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for each epoch, so that neighbouring seeds do not share epochs."""
    return seed * 1_000_003 + epoch


def _train_epoch(step: Step, batches: Iterable[tuple[Tensor, Tensor]], epoch: int, epochs: int) -> float:
    total, count = 0.0, 0
    for images, labels in batches:
        try:
            loss = step(images, labels)
        except TrainingError as error:
            raise TrainingError(f"epoch {epoch} of {epochs}: {error}") from error
        total += loss * len(labels)
        count += len(labels)
    return total / count
