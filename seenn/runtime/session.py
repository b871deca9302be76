"""The one loop over time: samples take slots, run step by step, and leave where their policy says.

A step does not depend on t, so each slot is at its own timestep and the batch keeps its shape: samples/s is the rate of
slot steps divided by the mean cost. A sample that exits leaves its slot at once, and the next one takes it (continuous
batching); only when the source has no more does the batch shrink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.ops.arguments import integer
from seenn.device import full_precision
from seenn.errors import InputError, SeennError, UnsupportedError, kind_of
from seenn.exits import ExitPolicy, FixedExit, Progress, cost_of_steps
from seenn.exits.deprecated import accept_timesteps
from seenn.runtime.observer import Observer
from seenn.runtime.predictions import Prediction, Predictions
from seenn.runtime.rows import Rows
from seenn.runtime.slots import Engine, Slots
from seenn.runtime.source import Arrival, BatchSource, Request, RequestSource, Source


class Session:
    """Runs an engine with a policy. Several runs may go on at once, each in slots of its own.

    Args:
        engine: whose slots samples run in.
        policy: who stops when; None runs every sample for all ``timesteps``.
        timesteps: T, the most steps that answer.
        slots: samples that run at once.

    Raises:
        ValueError: ``timesteps`` or ``slots`` out of range.
    """

    def __init__(self, engine: Engine, policy: ExitPolicy | None = None, timesteps: int = 8, slots: int = 64) -> None:
        self.engine = engine
        self.policy = FixedExit() if policy is None else policy
        if not isinstance(self.policy, ExitPolicy):
            raise TypeError(
                f"policy is {kind_of(self.policy)}; expected an exit policy, such as "
                "seenn.ConfidenceExit(threshold=0.9)"
            )
        accept_timesteps(type(self.policy))
        self.timesteps = integer("timesteps", timesteps, low=1)
        self.slots = integer("slots", slots, low=1)
        self._opened: list[Slots] = []  # by runs that are over, for those to come
        self._cost = cost_of_steps(self.timesteps, engine.initial_steps, engine.exit_costs)
        if self.engine.max_timesteps is not None and self.timesteps > self.engine.max_timesteps:
            raise ValueError(
                f"this {self.engine.name} engine is exact up to {self.engine.max_timesteps} timesteps, got "
                f"{self.timesteps}: make one with timesteps={self.timesteps}"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": []}  # a copy opens slots of its own

    def run(
        self,
        batches: Batch | Iterable[Batch],
        *,
        observers: Sequence[Observer] = (),
        progress: Callable[[int], None] = lambda done: None,
    ) -> Predictions:
        """All samples, answered in their order, on the CPU.

        Args:
            batches: prepared for the network; of any sizes.
            observers: see every step.
            progress: is told how many samples are answered.

        Raises:
            ValueError: no samples.
            InputError: an input that the engine cannot run, or frames of another number than T.
            UnsupportedError: frames, and the network can only be run on constant inputs.
            SeennError: not enough memory for the slots, or outputs that are not finite.
        """
        batches = [batches] if isinstance(batches, Batch) else batches
        answered: list[_Answers] = []
        done = 0
        for answers in self._answers(BatchSource(batches), self.slots, observers):
            answered.append(answers)
            progress(done := done + len(answers))
        if not done:
            raise ValueError("there are no samples to run: got none")
        order = torch.cat([answers.index for answers in answered]).argsort()
        found = Predictions.concatenate(answered)
        return Predictions(**{name: values[order] for name, values in vars(found).items()})

    def stream(
        self,
        requests: Iterable[Request],
        *,
        ordered: bool = True,
        warm: bool = False,
        observers: Sequence[Observer] = (),
    ) -> Iterator[Prediction]:
        """One prediction for each request, in their order or as they are ready.

        A request is taken when a slot is free, so that there may be endlessly many; whoever is slow to make the next
        one holds up nobody that runs. With one slot, each is answered before the next is taken. If making one fails,
        or it cannot be run, those before it are answered first.

        ``warm``, all requests are of one source, and each starts from the membranes that the one before left, see
        ``SpikingNetwork.warm_state``: they run one after the other, in one slot.

        Raises:
            UnsupportedError: warm, and the network has initial steps.
        """
        if warm and self.engine.initial_steps:
            raise UnsupportedError(
                "this network finds out what each image starts from in initial steps, so it cannot start warm: leave "
                "out warm=True"
            )
        return self._one_by_one(RequestSource(requests), ordered, observers, warm=warm)

    def answers(
        self, batches: Iterable[Batch], *, ordered: bool = True, observers: Sequence[Observer] = ()
    ) -> Iterator[Prediction]:
        """As ``stream``, of the samples of batches, in memory that does not grow with their number.

        A batch is waited for, so whoever makes them should be ahead: running samples stand still meanwhile.
        """
        return self._one_by_one(BatchSource(batches), ordered, observers)

    def _one_by_one(
        self, source: Source, ordered: bool, observers: Sequence[Observer], *, warm: bool = False
    ) -> Iterator[Prediction]:
        answers = self._answers(source, 1 if warm else self.slots, observers, warm=warm)
        found = chain.from_iterable(map(_Answers.one_by_one, answers))
        return _in_order(found) if ordered else found

    def _answers(
        self, source: Source, capacity: int, observers: Sequence[Observer], *, warm: bool = False
    ) -> Iterator[_Answers]:
        """However the run ends, nothing more is asked of whoever makes the samples."""
        try:
            yield from self._run(source, capacity, observers, warm=warm)
        finally:
            source.end()
        if source.error is not None:
            raise source.error

    def _run(self, source: Source, capacity: int, observers: Sequence[Observer], *, warm: bool) -> Iterator[_Answers]:
        segments = len(self.engine.exit_costs)
        first = source.take(capacity, wait=True)
        if source.ended:  # few samples need few slots, which cost memory
            capacity = max(1, len(first))
        if segments > 1 and capacity > 1:
            capacity *= 2  # while some fill up a batch of one segment, others wait for theirs
        slots, rows = self._open(capacity), Rows(capacity, segments, warm=warm)
        policy = self.policy
        cost = self._cost
        of_spikes = [observer for observer in observers if type(observer).spikes is not Observer.spikes]
        try:
            while True:
                if free := len(rows.free):
                    self._load(source, slots, rows, first or source.take(free, wait=not rows.busy_count))
                    first = []
                if not rows.busy_count:
                    break
                if segments == 1 and rows.has_holes:  # in one segment all go on together, and fastest side by side
                    slots.keep(torch.from_numpy(rows.keep()))
                segment, chosen = rows.due(self.slots)
                watch = rows.watch(chosen, of_spikes) if of_spikes else None  # one that shows no spikes is faster
                with full_precision(self.engine.device):
                    rows.feed(slots)
                    begin = time.perf_counter()
                    logits_sum = slots.step(torch.from_numpy(chosen), segment, watch).cpu()
                steps = rows.t[chosen] + 1
                t, samples = torch.from_numpy(steps), torch.from_numpy(rows.sample[chosen])
                here = torch.full_like(t, segment)
                progress = Progress(t, here, cost[(t - 1) * segments + segment - 1], segments)
                rows.advance(chosen, segment)
                for observer in observers:
                    observer.scores(progress, samples, logits_sum)
                last = (steps >= self.timesteps) & (segment == segments)
                stop = rows.ask(policy, progress, logits_sum, chosen, ~last)
                now = time.perf_counter()
                late = rows.deadline[chosen] < now + (now - begin)  # another step would end after it
                leaving = (stop | last | late).nonzero()[0]
                if len(leaving):
                    done = torch.from_numpy(leaving)
                    answers = _Answers(
                        labels=logits_sum[done].argmax(-1),
                        exit_timestep=t[done],
                        exit_segment=here[done],
                        cost=progress.cost[done],
                        confidence=policy.confidence(progress[done], logits_sum[done]),
                        logits_sum=logits_sum[done],
                        index=samples[done],
                        by_policy=torch.from_numpy(stop[leaving]),
                        at_end=torch.from_numpy(last[leaving]),
                    )
                    rows.release(chosen[leaving])
                    yield answers
        finally:
            self._opened.append(slots)

    def _open(self, capacity: int) -> Slots:
        """Slots that no other run uses."""
        while self._opened:
            slots = self._opened.pop()
            if slots.capacity == capacity:
                return slots
        return self.engine.open(capacity)

    def _load(self, source: Source, slots: Slots, rows: Rows, arrivals: Sequence[Arrival]) -> None:
        """Starts the samples; the first that cannot be run ends the source."""
        if not arrivals:
            return
        try:
            self._start(slots, rows, arrivals)
        except (ValueError, UnsupportedError) as error:  # none has been started
            if len(arrivals) == 1:
                source.end(error)
                return
            for arrival in arrivals:
                before = rows.taken
                self._load(source, slots, rows, [arrival])
                if rows.taken == before:
                    return

    def _start(self, slots: Slots, rows: Rows, arrivals: Sequence[Arrival]) -> None:
        """Starts all of them or none; what is wrong with a single one is said with its number."""
        for arrival in arrivals:
            self._check(arrival.inputs, rows.taken)
        frames = [arrival.inputs.view(-1, *self.engine.input_shape) for arrival in arrivals]
        first, later = torch.stack([each[0] for each in frames]), [each[1:] for each in frames if len(each) > 1]
        if not all(bool(values.isfinite().all()) for values in (first, *later)):
            raise InputError(f"image {rows.taken} holds NaN or infinite pixels: check the preprocessing")
        for frame in chain.from_iterable(later):
            self.engine.check(frame)
        chosen = rows.free[: len(arrivals)]
        with full_precision(self.engine.device):
            load = partial(slots.load, warm=True) if rows.warm and rows.taken else slots.load
            load(torch.from_numpy(chosen), first)
        deadlines = [arrival.deadline for arrival in arrivals]
        rows.start(chosen, self.policy.start(first.cpu()), frames, deadlines)

    def _check(self, inputs: Tensor, number: int) -> None:
        """Refuses what no engine runs; engines themselves look at the values."""
        expected = list(self.engine.input_shape)
        shape = list(inputs.shape)
        if shape[1:] == expected:
            if self.engine.no_frames is not None:
                raise UnsupportedError(f"{self.engine.no_frames}, got a sequence of frames: give images")
            if len(inputs) != self.timesteps:
                raise InputError(
                    f"sample {number} has {len(inputs)} frames and {self.timesteps} timesteps were asked for: give as "
                    "many as it has, or divide the events into as many frames"
                )
        elif shape != expected:
            raise InputError(
                f"image {number} has shape {shape}, expected {expected}: prepare every image as the network's "
                "preprocessing says"
            )
        if not inputs.is_floating_point():
            raise InputError(
                f"image {number} is {inputs.dtype}, expected floats: prepare it as the network's preprocessing says"
            )


@dataclass(frozen=True, kw_only=True)
class _Answers(Predictions):
    """Samples that left in one step, their numbers, and why they left.

    Raises:
        SeennError: outputs that are not finite.
    """

    index: Tensor
    by_policy: Tensor
    at_end: Tensor

    def __post_init__(self) -> None:
        finite = self.logits_sum.isfinite().all(-1)
        if not bool(finite.all()):
            bad = int((~finite).nonzero()[0, 0])
            raise SeennError(
                f"the outputs of image {int(self.index[bad])} are not finite after "
                f"{int(self.exit_timestep[bad])} timesteps: check the network's weights"
            )

    def one_by_one(self) -> Iterator[Prediction]:
        """The answer for each."""
        at = (self.exit_timestep, self.exit_segment)
        columns = (self.index, self.labels, *at, self.cost, self.confidence, self.at_end, self.by_policy)
        rows = zip(*(column.tolist() for column in columns), self.logits_sum.unbind(), strict=True)
        for index, label, steps, segment, cost, confidence, at_end, by_policy, scores in rows:
            yield Prediction(
                index=index,
                label=label,
                exit_timestep=steps,
                exit_segment=segment,
                cost=cost,
                confidence=confidence,
                logits_sum=scores,
                stopped_by="timesteps" if at_end else "policy" if by_policy else "deadline",
            )


def _in_order(predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    """Holds back what is ready too early; when it ends in an error, nothing that is ready is lost."""
    waiting: dict[int, Prediction] = {}
    expected = 0
    for prediction in predictions:
        waiting[prediction.index] = prediction
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
