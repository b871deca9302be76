"""The engine under every training: steps, validation, the best weights, and taking a run up again.

A run is a function of its configuration: every step draws its random numbers from the seed and the step's own
number (``seenn.training.plan``). What a state on disk needs besides is weights, the optimiser's memory and
the number of the step, and a run that was killed anywhere continues bit for bit as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn

from seenn.batch import Batch
from seenn.core.network import evaluating
from seenn.data import DataSplits, Split
from seenn.device import recording_gradients
from seenn.distributed import World, world
from seenn.errors import DataError, TrainingError
from seenn.training.config import TrainConfig
from seenn.training.diagnose import where_not_finite
from seenn.training.layout import fastest_layout, placed
from seenn.training.optim import averaged, build_optimizer
from seenn.training.plan import Plan, derived_seed, generator
from seenn.training.run import Run
from seenn.training.scale import one_of_many
from seenn.training.signals import stop_requests
from seenn.training.state import EpochReport, RunState

LossFn = Callable[[nn.Module, Batch, torch.Generator], Tensor]  # module, batch, shared random numbers -> scalar
Validate = Callable[[nn.Module], float]
_MOST_GROWTH = 1e6  # of the largest weight, or of 1 where that is less

Forward = Callable[[nn.Module, Batch], Tensor]  # scores [B, K], or [T, B, K] after each step


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
    on_step: Callable[[int, int], None] | None


@recording_gradients()
def fit(
    module: nn.Module,
    loss_fn: LossFn,
    splits: DataSplits,
    config: TrainConfig,
    *,
    validate: Validate | None = None,
    device: torch.device | str = "cpu",
    run: Run | None = None,
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
        validate: the accuracy by which the best epoch is chosen; by default on calibration.
        device: where.
        run: keeps metrics, curves and the state in a folder, and takes up what it finds there.
        on_step: called after every step with the steps done and the steps in all.

    Raises:
        DataError: a split that is needed is empty, has one class, or is smaller than a batch.
        TrainingError: no parameter learns; the loss became NaN or infinite (names the step and the layer), or weights
            absurdly large; or a signal stopped the run, whose state is then saved.
        CheckpointError: the run's folder holds another run or a damaged one, is in use, or cannot be written.
    """
    here, device = world(), torch.device(device)
    check_data(splits, config.batch_size, here)
    plan = Plan(config=config, train=splits.train)
    layout = fastest_layout(module)
    module.to(device).to(memory_format=layout)
    limit = config.validation_images
    validate = validate or (lambda kept: accuracies(kept, splits.calibration, limit=limit, device=device)[0])
    average = None if config.ema is None else averaged(module, config.ema)
    most = _MOST_GROWTH * max(1.0, _largest(module))
    state = RunState(module=module, optimizer=build_optimizer(module, config.optim), average=average)
    folder = nullcontext() if run is None else run.opened(state, here)
    with folder, torch.random.fork_rng(), one_of_many(module, device, here) as shared, stop_requests(run) as stop:
        for epoch in range(state.step // plan.steps_per_epoch + 1, plan.epochs + 1):
            if state.step >= plan.last_step_of(epoch):  # the last, a part of one, is done
                break
            if config.patience and state.epochs and epoch - 1 - state.best_epoch.epoch >= config.patience:
                break
            shared.train()
            for batch in plan.batches(epoch, state.step, here):
                _step(shared, loss_fn, placed(batch, device, layout), state, plan, here)
                if on_step is not None:
                    on_step(state.step, plan.total_steps)
                if ended := state.step == plan.last_step_of(epoch):
                    _refuse_diverged(state, plan, most)
                    with evaluating(state.kept):
                        state.end_epoch(validate(state.kept), epoch=epoch, epochs=plan.epochs)
                if run is not None:
                    run.after_step(state, here, epoch_ended=ended)
                    if stop.asked(here):
                        run.save(state, here)
                        raise (KeyboardInterrupt if stop.name == "SIGINT" else TrainingError)(
                            f"stopped by {stop.name} after step {state.step} of {plan.total_steps}; the state is saved "
                            f"in {run.folder}: the same command with --resume continues"
                        )
    module.to(memory_format=torch.contiguous_format)
    module.load_state_dict(state.best)
    return TrainingResult(module=module.eval(), best=state.best_epoch, epochs=tuple(state.epochs))


def on_inputs(module: nn.Module, batch: Batch) -> Tensor:
    """What ``module`` makes of constant images."""
    scores: Tensor = module(batch.inputs)
    return scores


@torch.no_grad()
def accuracies(
    module: nn.Module,
    split: Split,
    forward: Forward = on_inputs,
    *,
    limit: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[float, ...]:
    """The fraction of the first ``limit`` images of ``split`` (None: all) that are labelled correctly.

    One of ``forward(module, batch)``, or one after each step, T. The processes of a world share the images.
    """
    here, total = world(), len(split) if limit is None else min(limit, len(split))
    layout, correct = fastest_layout(module), torch.zeros((), dtype=torch.int64, device=device)
    mine = torch.arange(total)[here.part(total)]
    with evaluating(module):
        for batch in split.batches(256, order=mine):
            here_batch = placed(batch, device, layout)
            correct = correct + (forward(module, here_batch).argmax(-1) == here_batch.known_labels).sum(-1)
    return tuple((here.sum_(correct).double() / total).flatten().tolist())


def check_data(splits: DataSplits, batch_size: int, here: World) -> None:
    """Raises DataError where training cannot start, or could not mean anything."""
    if empty := [name for name in ("train", "calibration") if not len(getattr(splits, name))]:
        raise DataError(f"the {' and the '.join(empty)} split is empty; give images in both")
    images = len(splits.train)
    if batch_size > images:
        raise DataError(
            f"a batch of {batch_size} is larger than the train split of {images} images: give a smaller --batch-size"
        )
    if int(splits.train.labels.amax()) == int(splits.train.labels.amin()):
        raise DataError(
            f"all {images} images of the train split have the label {int(splits.train.labels[0])}: there is nothing "
            "to tell apart; give two classes or more"
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


def _largest(module: nn.Module) -> float:
    """The absolute largest weight; NaN where one is."""
    found = [p.detach().abs().max().double().cpu() for p in module.parameters() if p.numel() and p.is_floating_point()]
    return float(torch.stack(found).max()) if found else 0.0


def _refuse_diverged(state: RunState, plan: Plan, most: float) -> None:
    """Raises TrainingError for weights that no training needs: their loss may be a number still."""
    largest = _largest(state.module)
    if not largest <= most:
        raise TrainingError(
            f"step {state.step} of {plan.total_steps}: the training has diverged, its largest weight is {largest:.3g} "
            f"(learning rate up to {plan.config.optim.lr:.3g}). Try a lower --lr or a longer warm-up, and check that "
            "the images are normalised"
        )


def _step(module: nn.Module, loss_fn: LossFn, batch: Batch, state: RunState, plan: Plan, here: World) -> None:
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
        state.average.update_parameters(state.module)
    state.took_step(value, config.batch_size, rate)
