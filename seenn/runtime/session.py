"""The one loop over time: samples take slots, run step by step, and leave where their policy says.

A step does not depend on t, so each slot is at its own timestep and the batch keeps its shape: samples/s is the rate of
slot steps divided by the mean cost. A sample that exits leaves its slot at once, and the next one takes it (continuous
batching); only when the source has no more does the batch shrink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.ops import State
from seenn.core.ops.arguments import integer
from seenn.device import full_precision
from seenn.errors import InputError, SeennError, UnsupportedError
from seenn.exits import ExitPolicy, FixedExit, Progress, cost_of_steps
from seenn.exits.deprecated import accept_timesteps
from seenn.runtime.observer import Observer
from seenn.runtime.predictions import Prediction, Predictions
from seenn.runtime.slots import Engine, Slots
from seenn.runtime.source import Arrival, BatchSource, Request, RequestSource, Source

_PATIENCE = 4  # times as many samples as there are slots may pass one that waits


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
                f"policy is a {type(self.policy).__name__}; expected an exit policy, such as "
                "seenn.ConfidenceExit(threshold=0.9)"
            )
        accept_timesteps(type(self.policy))
        self.timesteps = integer("timesteps", timesteps, low=1)
        self.slots = integer("slots", slots, low=1)
        self._opened: list[Slots] = []  # by runs that are over, for those to come
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
        self, requests: Iterable[Request], *, ordered: bool = True, observers: Sequence[Observer] = ()
    ) -> Iterator[Prediction]:
        """One prediction for each request, in their order or as they are ready.

        A request is taken when a slot is free, so that there may be endlessly many; whoever is slow to make the next
        one holds up nobody that runs. With one slot, each is answered before the next is taken. If making one fails,
        or it cannot be run, those before it are answered first.
        """
        return self._one_by_one(RequestSource(requests), ordered, observers)

    def answers(
        self, batches: Iterable[Batch], *, ordered: bool = True, observers: Sequence[Observer] = ()
    ) -> Iterator[Prediction]:
        """As ``stream``, of the samples of batches, in memory that does not grow with their number.

        A batch is waited for, so whoever makes them should be ahead: running samples stand still meanwhile.
        """
        return self._one_by_one(BatchSource(batches), ordered, observers)

    def _one_by_one(self, source: Source, ordered: bool, observers: Sequence[Observer]) -> Iterator[Prediction]:
        found = chain.from_iterable(map(_Answers.one_by_one, self._answers(source, self.slots, observers)))
        return _in_order(found) if ordered else found

    def _answers(self, source: Source, capacity: int, observers: Sequence[Observer]) -> Iterator[_Answers]:
        segments = len(self.engine.exit_costs)
        first = source.take(capacity, wait=True)
        if source.ended:  # few samples need few slots, which cost memory
            capacity = max(1, len(first))
        if segments > 1 and capacity > 1:
            capacity *= 2  # while some fill up a batch of one segment, others wait for theirs
        slots, rows = self._open(capacity), _Rows(capacity, segments)
        policy = self.policy
        cost = cost_of_steps(self.timesteps, self.engine.initial_steps, self.engine.exit_costs)
        of_spikes = [observer for observer in observers if type(observer).spikes is not Observer.spikes]
        try:
            while True:
                if free := rows.free:
                    self._load(source, slots, rows, first or source.take(len(free), wait=not rows.busy_count))
                    first = []
                if not rows.busy_count:
                    break
                if segments == 1 and rows.has_holes:  # in one segment all go on together, and fastest side by side
                    slots.keep(rows.keep())
                segment, chosen = rows.due(self.slots)
                watch = rows.watch(chosen, of_spikes) if of_spikes else None  # one that shows no spikes is faster
                with full_precision(self.engine.device):
                    rows.feed(slots)
                    begin = time.perf_counter()
                    logits_sum = slots.step(chosen, segment, watch).cpu()
                t, samples = rows.t[chosen] + 1, rows.sample[chosen]
                here = torch.full_like(t, segment)
                progress = Progress(t, here, cost[(t - 1) * segments + segment - 1], segments)
                rows.advance(chosen, segment)
                for observer in observers:
                    observer.scores(progress, samples, logits_sum)
                last = progress.whole & (t >= self.timesteps)
                stop = rows.ask(policy, progress, logits_sum, chosen, (~last).nonzero().squeeze(1))
                now = time.perf_counter()
                late = rows.deadline[chosen] < now + (now - begin)  # another step would end after it
                done = (stop | last | late).nonzero().squeeze(1)
                if len(done):
                    answers = _Answers(
                        labels=logits_sum[done].argmax(-1),
                        exit_timestep=t[done],
                        exit_segment=here[done],
                        cost=progress.cost[done],
                        confidence=policy.confidence(progress[done], logits_sum[done]),
                        logits_sum=logits_sum[done],
                        index=samples[done],
                        by_policy=stop[done],
                        at_end=last[done],
                    )
                    rows.release(chosen[done])
                    yield answers
        finally:
            source.end()
            self._opened.append(slots)
        if source.error is not None:
            raise source.error

    def _open(self, capacity: int) -> Slots:
        """Slots that no other run uses."""
        while self._opened:
            slots = self._opened.pop()
            if slots.capacity == capacity:
                return slots
        return self.engine.open(capacity)

    def _load(self, source: Source, slots: Slots, rows: _Rows, arrivals: Sequence[Arrival]) -> None:
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

    def _start(self, slots: Slots, rows: _Rows, arrivals: Sequence[Arrival]) -> None:
        """Starts all of them or none; what is wrong with a single one is said with its number."""
        for arrival in arrivals:
            self._check(arrival.inputs, rows.taken)
        frames = [arrival.inputs.view(-1, *self.engine.input_shape) for arrival in arrivals]
        first, later = torch.stack([each[0] for each in frames]), [each[1:] for each in frames if len(each) > 1]
        if not all(bool(values.isfinite().all()) for values in (first, *later)):
            raise InputError(f"image {rows.taken} holds NaN or infinite pixels: check the preprocessing")
        for frame in chain.from_iterable(later):
            self.engine.check(frame)
        chosen = torch.tensor(rows.free[: len(arrivals)])
        with full_precision(self.engine.device):
            slots.load(chosen, first)
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


class _Rows:
    """What is known about each slot."""

    def __init__(self, capacity: int, segments: int) -> None:
        self._segments = segments
        self._all = torch.arange(capacity)
        self.taken = 0  # samples so far
        self.busy_count = 0
        self.t = torch.zeros(capacity, dtype=torch.int64)  # whole steps
        self.segment = torch.ones(capacity, dtype=torch.int64)  # that comes next
        self.sample = torch.zeros(capacity, dtype=torch.int64)
        self.deadline = torch.full((capacity,), torch.inf, dtype=torch.float64)
        self.state: State = ()  # of the policy
        self._busy = torch.zeros(capacity, dtype=torch.bool)
        self._frames: dict[int, Tensor] = {}  # of a sample, where it has one a timestep

    @property
    def free(self) -> list[int]:
        rows: list[int] = (~self._busy).nonzero().squeeze(1).tolist()
        return rows

    @property
    def has_holes(self) -> bool:
        """Whether a free slot lies before one that runs."""
        return not bool(self._busy[: self.busy_count].all())

    def start(self, rows: Tensor, state: State, frames: Sequence[Tensor], deadlines: Sequence[float]) -> None:
        if not self.state:
            self.state = tuple(tensor.new_zeros(len(self.t), *tensor.shape[1:]) for tensor in state)
        for tensor, new in zip(self.state, state, strict=True):
            tensor[rows] = new
        numbers = torch.arange(self.taken, self.taken + len(rows))
        self.t[rows], self.segment[rows], self.sample[rows], self._busy[rows] = 0, 1, numbers, True
        self.deadline[rows] = torch.tensor(deadlines, dtype=torch.float64)
        self._frames |= {n: each for n, each in zip(numbers.tolist(), frames, strict=True) if len(each) > 1}
        self.taken += len(rows)
        self.busy_count += len(rows)

    def feed(self, slots: Slots) -> None:
        """Gives samples that have one the frame of their next step."""
        if not self._frames:
            return
        samples = self.sample[: self.busy_count].tolist()
        rows = [row for row, sample in enumerate(samples) if sample in self._frames and self.t[row] > 0]
        if rows:
            frames = [self._frames[samples[row]][int(self.t[row])] for row in rows]
            slots.feed(torch.tensor(rows), torch.stack(frames))

    def due(self, batch: int) -> tuple[int, Tensor]:
        """The segment that is run next, and the slots, at most so many, that run it: static shapes where they can be.

        The deepest segment with a full batch; without one, that of the sample that came first, so that nobody waits for
        ever. Fewer than a batch are a power of two: the rest waits for others.
        """
        if self._segments == 1:
            return 1, self._all[: self.busy_count]
        waiting = torch.bincount(self.segment[self._busy], minlength=self._segments + 1)
        busy = self._busy.nonzero().squeeze(1)
        oldest = busy[self.sample[busy].argmin()]
        full = (waiting >= batch).nonzero().squeeze(1)
        patient = self.taken - int(self.sample[oldest]) <= _PATIENCE * len(self.t)
        segment = int(full[-1]) if len(full) and patient else int(self.segment[oldest])
        rows = busy[self.segment[busy] == segment]
        count = batch if len(rows) >= batch else 1 << (len(rows).bit_length() - 1)
        first = self.sample[rows].argsort()[:count]
        return segment, rows[first].sort().values

    def advance(self, rows: Tensor, segment: int) -> None:
        """These slots have run a segment."""
        whole = segment == self._segments
        self.t[rows] += whole
        self.segment[rows] = 1 if whole else segment + 1

    def ask(self, policy: ExitPolicy, progress: Progress, logits_sum: Tensor, rows: Tensor, asked: Tensor) -> Tensor:
        """Which samples the policy stops; it is asked about the numbers ``asked`` of ``rows``, who can go on."""
        stop = torch.zeros(len(progress), dtype=torch.bool)
        if len(asked):
            own = tuple(tensor[rows[asked]] for tensor in self.state)
            stop[asked], own = policy.stop(progress[asked], logits_sum[asked], own)
            for tensor, new in zip(self.state, own, strict=True):
                tensor[rows[asked]] = new.to(tensor.dtype)
        return stop

    def release(self, rows: Tensor) -> None:
        self._busy[rows] = False
        self.busy_count -= len(rows)
        for sample in self.sample[rows].tolist() if self._frames else ():
            self._frames.pop(sample, None)

    def keep(self) -> Tensor:
        """Closes the holes; returns the rows that move to the front."""
        rows = self._busy.nonzero().squeeze(1)
        for tensor in (self.t, self.segment, self.sample, self.deadline, *self.state):
            tensor[: len(rows)] = tensor[rows]
        self._busy[:] = False
        self._busy[: len(rows)] = True
        return rows

    def watch(self, stepped: Tensor, observers: Sequence[Observer]) -> Callable[..., None]:
        """What slots show the spikes of those that are stepped to."""

        def see(site: str, first: int, counts: Tensor, *, initial: bool = False) -> None:
            rows = stepped[first : first + len(counts)]
            t = torch.zeros_like(self.t[rows]) if initial else self.t[rows] + 1
            for observer in observers:
                observer.spikes(t, self.sample[rows], site, counts)

        return see


def _in_order(predictions: Iterator[Prediction]) -> Iterator[Prediction]:
    """Holds back what is ready too early; when it ends in an error, nothing that is ready is lost."""
    waiting: dict[int, Prediction] = {}
    expected = 0
    for prediction in predictions:
        waiting[prediction.index] = prediction
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
