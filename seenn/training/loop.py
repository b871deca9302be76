"""The engine under every training: steps, validation, the best weights, and taking a run up again.

A run is a function of its configuration: every step draws its random numbers from the seed and the step's own
number (``seenn.training.seeds``). What a state on disk needs besides is weights, the optimiser's memory and
the number of the step, and a run that was killed anywhere continues bit for bit as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seenn.core.network import evaluating
from seenn.data import DataSplits, Split
from seenn.distributed import World, world
from seenn.errors import DataError, TrainingError
from seenn.training.config import TrainConfig
from seenn.training.diagnose import where_not_finite
from seenn.training.ema import Averaged
from seenn.training.optim import build_optimizer
from seenn.training.run import Run
from seenn.training.scale import one_of_many
from seenn.training.seeds import derived_seed, generator
from seenn.training.signals import StopRequest, stop_requests
from seenn.training.state import RunState

Batch = tuple[Tensor, Tensor]  # images, labels
LossFn = Callable[[nn.Module, Tensor, Tensor], Tensor]  # module, images, labels -> scalar
Validate = Callable[[nn.Module], float]


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch did."""

    epoch: int  # 1-based
    epochs: int
    loss: float  # mean over the epoch's images
    accuracy: float  # on the held-out split, in [0, 1]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The trained module (best epoch's weights, eval mode) and how it got there."""

    module: nn.Module
    best: EpochReport
    epochs: tuple[EpochReport, ...]


def fit(
    module: nn.Module,
    loss_fn: LossFn,
    splits: DataSplits,
    config: TrainConfig,
    *,
    device: torch.device | str = "cpu",
    validate: Validate | None = None,
    run: Run | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Trains ``module`` in place on the train split.

    The weights that are kept are those of the best epoch on the *calibration* split (the later of equals,
    where the learning rate is lower); the exit and test splits are never looked at. Every epoch shuffles anew
    and leaves out a last, incomplete batch. After ``config.patience`` epochs in a row without a better one,
    training stops.

    Under ``torchrun`` the processes share every batch, and the result is that of one process with the same
    batch, to rounding.

    Args:
        module: anything; only ``loss_fn`` and ``validate`` call it.
        loss_fn: ``(module, images, labels) -> scalar``, the mean over the images. It must call the module that
            it is given. Labels are classes ``[B]``, or probabilities ``[B, K]`` if ``config.transform`` mixes.
        splits: the data.
        config: how to train.
        device: where.
        validate: the accuracy by which the best epoch is chosen; by default :func:`accuracy` on calibration.
        run: keeps metrics, curves and the state in a folder, and takes up what it finds there.
        on_epoch: called after every epoch.
        on_step: called after every step with the steps done and the steps in all.

    Raises:
        DataError: a split that is needed is empty, has one class, or is smaller than a batch.
        TrainingError: the loss became NaN or infinite (names the step and the layer), or a signal stopped the
            run, whose state is then saved.
        CheckpointError: the run's folder holds another run, or a damaged one.
    """
    here, device = world(), torch.device(device)
    check_data(splits, config.batch_size, here)
    plan = _Plan(config=config, images=len(splits.train))
    module.to(device).to(memory_format=torch.channels_last)
    if validate is None:
        validate = partial(accuracy, split=splits.calibration, limit=config.validation_images, device=device)
    average = None if config.ema is None else Averaged(module, config.ema)
    state = RunState(module=module, optimizer=build_optimizer(module, config.optim), average=average)
    if run is not None:
        run.open(state, here)
    reports = [EpochReport(**report) for report in state.epochs]
    kept = module if average is None else average.module
    with torch.random.fork_rng(), one_of_many(module, device, here) as shared, stop_requests(run) as stop:
        step = _Step(module=shared, loss_fn=loss_fn, state=state, plan=plan, here=here)
        for epoch, batches in plan.epochs_from(state.step, splits.train, here):
            if config.patience is not None and reports and epoch - 1 - _best(reports).epoch >= config.patience:
                break
            shared.train()
            for images, labels in batches:
                step(channels_last(images.to(device)), labels.to(device))
                if on_step is not None:
                    on_step(state.step, plan.total_steps)
                if run is not None and state.step < plan.last_step_of(epoch):
                    run.after_step(state, here)
                    _leave_if_asked(stop, run, state, plan, here)
            with evaluating(kept):
                reached = validate(kept)
            report = EpochReport(
                epoch=epoch, epochs=plan.epochs, loss=state.loss_sum / state.loss_count, accuracy=reached
            )
            if reached >= max((r.accuracy for r in reports), default=0.0):
                state.keep(kept)
            reports.append(report)
            state.end_epoch(vars(report))
            if run is not None:
                run.after_epoch(state, here)
                _leave_if_asked(stop, run, state, plan, here)
            if on_epoch is not None:
                on_epoch(report)
    module.to(memory_format=torch.contiguous_format)
    module.load_state_dict(state.best)
    return TrainingResult(module=module.eval(), best=_best(reports), epochs=tuple(reports))


def _best(reports: Sequence[EpochReport]) -> EpochReport:
    """The epoch whose weights are kept: the best, and of equals the last."""
    return max(reports, key=lambda report: (report.accuracy, report.epoch))


@torch.inference_mode()
def accuracy(
    module: nn.Module,
    split: Split,
    *,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
) -> float:
    """The fraction of the first ``limit`` images of ``split`` (None: all) that ``module`` labels correctly.

    The processes of a world share the images.
    """
    here, total = world(), len(split) if limit is None else min(limit, len(split))
    correct = torch.zeros((), dtype=torch.int64, device=device)
    mine = torch.arange(total)[here.part(total)]
    for batch in split.batches(batch_size, order=mine):
        assert batch.labels is not None
        images = channels_last(batch.inputs.to(device))
        correct += (module(images).argmax(-1) == batch.labels.to(device)).sum()
    return int(here.sum_(correct)) / total


def channels_last(images: Tensor) -> Tensor:
    """The memory layout in which convolutions train fastest; sequences ``[T, B, C, H, W]`` stay as they are."""
    return images.to(memory_format=torch.channels_last) if images.dim() == 4 else images


def check_data(splits: DataSplits, batch_size: int, here: World) -> None:
    """Raises DataError where training cannot start, or could not mean anything."""
    if empty := [name for name in ("train", "calibration") if not len(getattr(splits, name))]:
        raise DataError(f"the {' and the '.join(empty)} split is empty; training needs images in both")
    images = len(splits.train)
    if batch_size > images:
        raise DataError(f"a batch of {batch_size} is larger than the train split of {images} images; use a smaller one")
    if int(splits.train.labels.amax()) == int(splits.train.labels.amin()):
        raise DataError(
            f"all {images} images of the train split have the label {int(splits.train.labels[0])}: there is nothing "
            "to tell apart; training needs two classes or more"
        )
    if batch_size % here.size:
        raise DataError(
            f"a batch of {batch_size} does not divide among {here.size} processes; use a multiple of {here.size}, "
            "or fewer processes"
        )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Which images each step sees."""

    config: TrainConfig
    images: int

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.config.batch_size

    @property
    def total_steps(self) -> int:
        return max(1, round(self.config.epochs * self.steps_per_epoch))

    @property
    def epochs(self) -> int:
        return -(-self.total_steps // self.steps_per_epoch)

    def last_step_of(self, epoch: int) -> int:
        return min(epoch * self.steps_per_epoch, self.total_steps)

    def epochs_from(self, step: int, train: Split, here: World) -> Iterator[tuple[int, Iterator[Batch]]]:
        """The epochs that are not done after ``step`` steps, each with the batches that it still has to see."""
        for epoch in range(step // self.steps_per_epoch + 1, self.epochs + 1):
            first = (epoch - 1) * self.steps_per_epoch
            if max(step, first) < self.last_step_of(epoch):
                yield epoch, self._batches(epoch, max(step, first), train, here)

    def _batches(self, epoch: int, step: int, train: Split, here: World) -> Iterator[Batch]:
        config, size = self.config, self.config.batch_size
        order = torch.randperm(self.images, generator=generator(config.seed, "order", epoch))
        rows = here.part(size)
        start = step - (epoch - 1) * self.steps_per_epoch
        stop = self.last_step_of(epoch) - (epoch - 1) * self.steps_per_epoch
        mine = torch.cat([order[k * size : (k + 1) * size][rows] for k in range(start, stop)])
        for offset, batch in enumerate(train.batches(size // here.size, order=mine)):
            assert batch.labels is not None
            random = generator(config.seed, "augment", step + offset)
            images, labels = config.augment(batch.inputs, random, rows, size), batch.labels
            if config.transform is not None:
                random = generator(config.seed, "transform", step + offset, here.rank)
                images, labels = config.transform(images, labels, random)
            yield images, labels


@dataclass(kw_only=True)
class _Step:
    """One optimisation step: forward, loss, backward, update, average."""

    module: nn.Module
    loss_fn: LossFn
    state: RunState
    plan: _Plan
    here: World

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Updates the weights.

        Raises:
            TrainingError: the loss is not finite; nothing was updated.
        """
        state, config = self.state, self.plan.config
        seed = derived_seed(config.seed, "step", state.step, self.here.rank)
        torch.manual_seed(seed)
        rate = config.optim.lr_at(state.step, self.plan.total_steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(images, labels)
        value = float(self.here.sum_(loss.detach().clone())) / self.here.size
        if not math.isfinite(value):
            torch.manual_seed(seed)
            culprit = where_not_finite(state.module, lambda module: self._loss(images, labels, module))
            raise TrainingError(
                f"step {state.step + 1} of {self.plan.total_steps}: the loss is {value} (learning rate {rate:.3g}); "
                f"{culprit}. Try a lower --lr or a longer warm-up, and check that the images are normalised"
            )
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        if state.average is not None:
            state.average.update(state.module, state.step)
        state.took_step(value, self.plan.config.batch_size, rate)

    def _loss(self, images: Tensor, labels: Tensor, module: nn.Module | None = None) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.plan.config.amp):
            return self.loss_fn(self.module if module is None else module, images, labels)


def _leave_if_asked(stop: StopRequest, run: Run, state: RunState, plan: _Plan, here: World) -> None:
    if not stop.asked(here):
        return
    run.save(state, here)
    raise TrainingError(
        f"stopped by {stop.name} after step {state.step} of {plan.total_steps}; the state is saved in {run.folder}: "
        "the same command with --resume continues"
    )


def record_of(config: TrainConfig, **more: Any) -> dict[str, Any]:
    """A run's configuration for its folder, with whatever else determines the outcome."""
    return {"training": config.to_record(), **more}
