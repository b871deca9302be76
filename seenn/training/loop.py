"""The engine under every training: steps, validation, the best weights, and taking a run up again.

A run is a function of its configuration: every step draws its random numbers from the seed and the step's own
number (``seenn.training.seeds``). What a state on disk needs besides is weights, the optimiser's memory and
the number of the step, and a run that was killed anywhere continues bit for bit as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor, nn

from seenn.batch import Batch
from seenn.core.network import evaluating
from seenn.data import DataSplits, Split
from seenn.distributed import World, world
from seenn.errors import DataError, TrainingError
from seenn.training.config import TrainConfig
from seenn.training.diagnose import where_not_finite
from seenn.training.ema import Averaged
from seenn.training.layout import fastest_layout, placed
from seenn.training.optim import build_optimizer
from seenn.training.run import Run
from seenn.training.scale import one_of_many
from seenn.training.seeds import derived_seed, generator
from seenn.training.signals import StopRequest, stop_requests
from seenn.training.state import RunState

LossFn = Callable[[nn.Module, Batch, torch.Generator], Tensor]  # module, batch, shared random numbers -> scalar
Validate = Callable[[nn.Module], float]
Forward = Callable[[nn.Module, Batch], Tensor]  # scores [B, K], or [T, B, K] after each step


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


class FitOptions(TypedDict, total=False):
    """What every training takes besides its data and configuration; see :func:`fit`."""

    device: torch.device | str
    run: Run | None
    on_epoch: Callable[[EpochReport], None] | None
    on_step: Callable[[int, int], None] | None


def fit(
    module: nn.Module,
    loss_fn: LossFn,
    splits: DataSplits,
    config: TrainConfig,
    *,
    validate: Validate | None = None,
    device: torch.device | str = "cpu",
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
        loss_fn: ``(module, batch, shared) -> scalar``, the mean over the samples. It must call the module that it
            is given. The labels are classes ``[B]``, or probabilities ``[B, K]`` if ``config.transform`` mixes.
            ``shared`` gives random numbers that are the same in all processes, for what concerns a whole batch;
            torch's global generator gives each process its own.
        splits: the data.
        config: how to train.
        validate: the accuracy by which the best epoch is chosen; by default :func:`accuracy` on calibration.
        device: where.
        run: keeps metrics, curves and the state in a folder, and takes up what it finds there.
        on_epoch: called after every epoch.
        on_step: called after every step with the steps done and the steps in all.

    Raises:
        DataError: a split that is needed is empty, has one class, or is smaller than a batch.
        TrainingError: no parameter learns; the loss became NaN or infinite (names the step and the layer); or a
            signal stopped the run, whose state is then saved.
        CheckpointError: the run's folder holds another run or a damaged one, is in use, or cannot be written.
    """
    here, device = world(), torch.device(device)
    check_data(splits, config.batch_size, here)
    plan = _Plan(config=config, images=len(splits.train))
    layout = fastest_layout(module)
    module.to(device).to(memory_format=layout)
    if validate is None:
        validate = partial(accuracy, split=splits.calibration, limit=config.validation_images, device=device)
    average = None if config.ema is None else Averaged(module, config.ema)
    state = RunState(module=module, optimizer=build_optimizer(module, config.optim), average=average)
    kept = module if average is None else average.module
    folder = nullcontext() if run is None else run.opened(state, here)
    with folder, torch.random.fork_rng(), one_of_many(module, device, here) as shared, stop_requests(run) as stop:
        reports = [EpochReport(**report) for report in state.epochs]
        for epoch, batches in plan.epochs_from(state.step, splits.train, here):
            if config.patience is not None and reports and epoch - 1 - _best(reports).epoch >= config.patience:
                break
            shared.train()
            for batch in batches:
                _step(shared, loss_fn, placed(batch, device, layout), state, plan, here)
                if on_step is not None:
                    on_step(state.step, plan.total_steps)
                if run is not None and state.step < plan.last_step_of(epoch):
                    run.after_step(state, here)
                    _leave_if_asked(stop, run, state, plan, here)
            with evaluating(kept):
                reached = validate(kept)
            loss = state.loss_sum / state.loss_count
            report = EpochReport(epoch=epoch, epochs=plan.epochs, loss=loss, accuracy=reached)
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
    return accuracies(module, split, on_inputs, limit=limit, device=device, batch_size=batch_size)[0]


def on_inputs(module: nn.Module, batch: Batch) -> Tensor:
    """What ``module`` makes of constant images."""
    scores: Tensor = module(batch.inputs)
    return scores


@torch.no_grad()
def accuracies(
    module: nn.Module,
    split: Split,
    forward: Forward,
    *,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
) -> tuple[float, ...]:
    """:func:`accuracy` of what ``forward(module, batch)`` gives: one, or one after each step, T."""
    here, total = world(), len(split) if limit is None else min(limit, len(split))
    layout, correct = fastest_layout(module), torch.zeros((), dtype=torch.int64, device=device)
    mine = torch.arange(total)[here.part(total)]
    with evaluating(module):
        for batch in split.batches(batch_size, order=mine):
            here_batch = placed(batch, device, layout)
            correct = correct + (forward(module, here_batch).argmax(-1) == here_batch.known_labels).sum(-1)
    return tuple((here.sum_(correct).double() / total).flatten().tolist())


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


def refuse_sequences(splits: DataSplits, what: str, instead: str) -> None:
    """Raises TrainingError where samples are frames over time, which ``what`` cannot learn from."""
    if splits.train.is_sequence:
        raise TrainingError(
            f"{what} learns from constant images, and the samples of {splits.spec} are sequences of frames: {instead}"
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
        first = (epoch - 1) * self.steps_per_epoch
        steps = range(step - first, self.last_step_of(epoch) - first)
        mine = torch.cat([order[k * size : (k + 1) * size][rows] for k in steps])
        for offset, batch in enumerate(train.batches(size // here.size, order=mine)):
            batch = config.augment(batch, generator(config.seed, "augment", step + offset), rows, size)
            if config.transform is not None:
                batch = config.transform(batch, generator(config.seed, "transform", step + offset, here.rank))
            yield batch


def _step(module: nn.Module, loss_fn: LossFn, batch: Batch, state: RunState, plan: _Plan, here: World) -> None:
    """One optimisation step: forward, loss, backward, update, average.

    Raises:
        TrainingError: the loss is not finite; nothing was updated.
    """
    config, seed = plan.config, derived_seed(plan.config.seed, "step", state.step, here.rank)

    def loss_of(module: nn.Module) -> Tensor:
        torch.manual_seed(seed)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=config.amp):
            return loss_fn(module, batch, generator(config.seed, "shared", state.step))

    rate = config.optim.lr_at(state.step, plan.total_steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(module)
    value = float(here.sum_(loss.detach().clone())) / here.size
    if not math.isfinite(value):
        raise TrainingError(
            f"step {state.step + 1} of {plan.total_steps}: the loss is {value} (learning rate {rate:.3g}); "
            f"{where_not_finite(state.module, loss_of)}. Try a lower --lr or a longer warm-up, and check that the "
            "images are normalised"
        )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    if state.average is not None:
        state.average.update(state.module, state.step)
    state.took_step(value, config.batch_size, rate)


def _leave_if_asked(stop: StopRequest, run: Run, state: RunState, plan: _Plan, here: World) -> None:
    if stop.asked(here):
        run.save(state, here)
        raise TrainingError(
            f"stopped by {stop.name} after step {state.step} of {plan.total_steps}; the state is saved in "
            f"{run.folder}: the same command with --resume continues"
        )
