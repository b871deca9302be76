"""Continuous batching: a sample that exits leaves its slot at once, and the next image takes it.

The step does not depend on t, so each slot is at its own timestep and the batch keeps its shape: images/s is
the rate of slot steps divided by the mean number of timesteps. Only when the images run out does it shrink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.core.ops.arguments import integer, number
from seenn.errors import SeennError
from seenn.exits.policy import ExitPolicy
from seenn.runtime.predictions import Prediction, Predictions
from seenn.runtime.reference import StepObserver
from seenn.runtime.slots import Engine, SlotObserver, Slots


@dataclass(frozen=True, kw_only=True)
class Request:
    """One image of a stream.

    Raises:
        ValueError: ``deadline_ms`` is not above 0: no step can be run in no time.
    """

    image: Tensor  # [C, H, W], preprocessed
    deadline_ms: float | None = None  # from when the stream takes the image; then it gives the best answer so far

    def __post_init__(self) -> None:
        if self.deadline_ms is not None:
            number("deadline_ms", self.deadline_ms, above=0.0)


#: ``(indices of the samples that ran, their timesteps, logits_sum)`` after every step.
Trace = Callable[[Tensor, Tensor, Tensor], None]


def run_slots(
    engine: Engine,
    slots: Slots,
    requests: Iterable[Request],
    policy: ExitPolicy,
    timesteps: int,
    *,
    trace: Trace | None = None,
    observe: StepObserver | None = None,
) -> Iterator[Prediction]:
    """Answers in the order in which they are ready.

    An image is taken when there is a free slot. If taking one fails, what is running is finished and
    answered before the error is raised.

    Args:
        engine: whose slots these are.
        slots: nothing else may use them meanwhile.
        requests: the images.
        policy: who stops when; its state has a row for each slot.
        timesteps: T, the most steps any image gets.
        trace: sees the sums after every step.
        observe: sees the spike counts, as in ``run_reference``.

    Raises:
        ValueError: an image of another size or with values that are not finite; ``timesteps`` out of range.
    """
    integer("timesteps", timesteps, low=1)
    if engine.max_timesteps is not None and timesteps > engine.max_timesteps:
        raise ValueError(
            f"this {engine.name} engine is exact up to {engine.max_timesteps} timesteps, got {timesteps}: make one "
            f"with timesteps={timesteps}"
        )
    state = _Rows(slots.capacity)
    source = _Source(engine, requests)
    while True:
        if free := source.load(slots, state.free_rows()):
            rows, images, taken = free
            state.start(rows, policy.start(images), taken, source.taken - len(taken))
        if not state.full:
            if len(stay := state.busy_rows()) == 0:
                break
            slots.keep(stay)
            state.keep(stay)
        active = state.active
        begin = time.perf_counter()
        logits_sum = slots.step(active, None if observe is None else state.watched(observe)).cpu()
        state.t[:active] += 1
        t = state.t[:active]
        if trace is not None:
            trace(state.index[:active], t, logits_sum)
        stop, rule = policy.stop(t, logits_sum, tuple(tensor[:active] for tensor in state.rule))
        for tensor, new in zip(state.rule, rule, strict=True):
            tensor[:active] = new
        last = t >= timesteps
        now = time.perf_counter()
        late = state.deadline[:active] < now + (now - begin)  # another step would end after it
        done = (stop | last | late).nonzero().squeeze(1)
        if len(done):
            confidence = policy.confidence(t[done], logits_sum[done])
            yield from _answers(done, state, logits_sum[done], confidence, stop, last)
            state.release(done)
    if source.error is not None:
        raise source.error


def _answers(
    done: Tensor, state: _Rows, logits_sum: Tensor, confidence: Tensor, stop: Tensor, last: Tensor
) -> Iterator[Prediction]:
    if not bool(logits_sum.isfinite().all()):
        bad = int(state.index[done[(~logits_sum.isfinite().all(-1)).nonzero()[0, 0]]])
        raise SeennError(f"the outputs of image {bad} are not finite: check the network's weights")
    columns = (state.index[done], logits_sum.argmax(-1), state.t[done], confidence, last[done], stop[done])
    rows = zip(*(column.tolist() for column in columns), logits_sum.unbind(), strict=True)
    # Made here, before the slots go on: the caller may take his time.
    found = [
        Prediction(
            index=index,
            label=label,
            exit_timestep=steps,
            confidence=sure,
            logits_sum=scores,
            stopped_by="timesteps" if at_end else "policy" if by_policy else "deadline",
        )
        for index, label, steps, sure, at_end, by_policy, scores in rows
    ]
    yield from found


class _Source:
    """Takes requests while there are any; an error ends it and is kept for later."""

    def __init__(self, engine: Engine, requests: Iterable[Request]) -> None:
        self._engine = engine
        self._requests: Iterator[Request] | None = iter(requests)
        self.taken = 0
        self.error: Exception | None = None

    def load(self, slots: Slots, rows: list[int]) -> tuple[Tensor, Tensor, list[Request]] | None:
        """Starts as many requests as there are rows: the rows that were taken, the images and the requests."""
        found: list[Request] = []
        while self._requests is not None and len(found) < len(rows):
            try:
                request = next(self._requests)
                _check_shape(self._engine, request.image, self.taken + len(found))
            except StopIteration:
                self._requests = None
            except Exception as error:
                self._requests, self.error = None, error
            else:
                found.append(request)
        while found:
            chosen, images = torch.tensor(rows[: len(found)]), torch.stack([request.image for request in found])
            try:
                _check_values(images)
                slots.load(chosen, images)
            except ValueError:  # what slots refuse, they have not begun with
                if (bad := self._first_bad(found)) is None:
                    raise
                found = found[:bad]
            else:
                self.taken += len(found)
                return chosen, images, found
        return None

    def _first_bad(self, requests: list[Request]) -> int | None:
        """The one that cannot be run; it ends the stream and becomes its error."""
        for position, request in enumerate(requests):
            try:
                check_image(self._engine, request.image, self.taken + position)
            except ValueError as error:
                self._requests, self.error = None, error
                return position
        return None


def check_image(engine: Engine, image: Tensor, index: int) -> None:
    """Raises ValueError where the engine cannot run the image."""
    _check_shape(engine, image, index)
    _check_values(image, index)
    if engine.input_scale is not None:
        engine.input_scale.quantize(image.unsqueeze(0))


def _check_shape(engine: Engine, image: Tensor, index: int) -> None:
    if tuple(image.shape) != engine.input_shape:
        raise ValueError(
            f"image {index} has shape {list(image.shape)}, expected {list(engine.input_shape)}: prepare every image "
            "as the network's preprocessing says"
        )


def _check_values(images: Tensor, index: int = 0) -> None:
    if not bool(images.isfinite().all()):
        raise ValueError(f"image {index} holds NaN or infinite pixels: check the preprocessing")


class _Rows:
    """What is known about each slot; the first ``active`` ones run."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.active = 0
        self.busy = torch.zeros(capacity, dtype=torch.bool)
        self.t = torch.zeros(capacity, dtype=torch.int64)
        self.index = torch.zeros(capacity, dtype=torch.int64)
        self.deadline = torch.full((capacity,), torch.inf, dtype=torch.float64)
        self.rule: tuple[Tensor, ...] = ()

    @property
    def full(self) -> bool:
        """Whether the first ``active`` slots are all taken."""
        return self.active > 0 and bool(self.busy[: self.active].all())

    def free_rows(self) -> list[int]:
        rows: list[int] = (~self.busy).nonzero().squeeze(1).tolist()
        return rows

    def busy_rows(self) -> Tensor:
        return self.busy.nonzero().squeeze(1)

    def start(self, rows: Tensor, rule: tuple[Tensor, ...], requests: list[Request], first: int) -> None:
        if not self.rule:
            self.rule = tuple(tensor.new_zeros(self.capacity, *tensor.shape[1:]) for tensor in rule)
        for tensor, new in zip(self.rule, rule, strict=True):
            tensor[rows] = new
        now = time.perf_counter()
        limits = [torch.inf if r.deadline_ms is None else now + r.deadline_ms / 1000 for r in requests]
        self.deadline[rows] = torch.tensor(limits, dtype=torch.float64)
        self.busy[rows], self.t[rows] = True, 0
        self.index[rows] = torch.arange(first, first + len(rows))
        self.active = max(self.active, int(rows.max()) + 1)

    def release(self, rows: Tensor) -> None:
        self.busy[rows] = False

    def keep(self, rows: Tensor) -> None:
        for tensor in (self.t, self.index, self.deadline, *self.rule):
            tensor[: len(rows)] = tensor[rows]
        self.active = len(rows)
        self.busy[:] = False
        self.busy[: self.active] = True

    def watched(self, observe: StepObserver) -> SlotObserver:
        """Groups what a site fired by the samples' timesteps."""

        def see(site: str, first: int, counts: Tensor) -> None:
            t = self.t[first : first + len(counts)] + 1
            for step in sorted(set(t.tolist())):
                chosen = (t == step).nonzero().squeeze(1)
                rows = self.index[first : first + len(counts)]
                observe(step, rows[chosen], site, counts if len(chosen) == len(t) else counts[chosen])

        return see


def run_engine(
    engine: Engine,
    batches: Iterable[Tensor],
    policy: ExitPolicy,
    timesteps: int,
    *,
    slots: int,
    keep_logits: bool = False,
    observe: StepObserver | None = None,
) -> Predictions:
    """All images of ``batches`` through ``slots`` slots, answered in their order.

    Raises:
        ValueError: as ``run_slots``; no images.
        SeennError: not enough memory for the slots, or outputs that are not finite.
    """
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    requests = (Request(image=image) for batch in batches for image in batch)
    found = sorted(
        run_slots(
            engine,
            engine.open(slots),
            requests,
            policy,
            timesteps,
            trace=(lambda index, t, sums: steps.append((index.clone(), t.clone(), sums))) if keep_logits else None,
            observe=observe,
        ),
        key=lambda prediction: prediction.index,
    )
    if not found:
        raise ValueError("there are no images to run: got none")
    per_step = None
    if keep_logits:
        per_step = torch.full((timesteps, len(found), len(found[0].logits_sum)), torch.nan)
        for index, t, sums in steps:
            per_step[t - 1, index] = sums.to(per_step.dtype)
    return Predictions(
        labels=torch.tensor([p.label for p in found]),
        exit_timestep=torch.tensor([p.exit_timestep for p in found]),
        confidence=torch.tensor([p.confidence for p in found]),
        logits_sum=torch.stack([p.logits_sum for p in found]),
        logits_sum_per_step=per_step,
    )
