"""What is known about each slot: whose it is, how far that has come, and which of them run next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.core.ops import State
from seenn.exits import ExitPolicy, Progress
from seenn.runtime.observer import Observer
from seenn.runtime.slots import Slots

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
_PATIENCE = 4  # times as many samples as there are slots may pass one that waits


class Rows:
    """Of some slots, in NumPy, whose calls cost less than torch's where there are so few numbers.

    Attributes:
        warm: samples start from what the one before left.
        taken: samples so far.
        busy_count: slots that run.
        t: whole steps of each, int64 ``[capacity]``.
        segment: that comes next, int64 ``[capacity]``.
        sample: its number, int64 ``[capacity]``.
        deadline: in seconds of ``time.perf_counter``, float64 ``[capacity]``.
        state: of the policy, ``[capacity, …]`` each.
    """

    def __init__(self, capacity: int, segments: int, *, warm: bool) -> None:
        self._segments = segments
        self.warm = warm
        self._all = np.arange(capacity)
        self.taken = 0
        self.busy_count = 0
        self.t = np.zeros(capacity, dtype=np.int64)
        self.segment = np.ones(capacity, dtype=np.int64)
        self.sample = np.zeros(capacity, dtype=np.int64)
        self.deadline = np.full(capacity, np.inf)
        self.state: State = ()
        self._busy = np.zeros(capacity, dtype=np.bool_)
        self._frames: dict[int, Tensor] = {}  # of a sample, where it has one a timestep

    @property
    def free(self) -> Numbers:
        """The slots that run nothing."""
        return (~self._busy).nonzero()[0]

    @property
    def has_holes(self) -> bool:
        """Whether a free slot lies before one that runs."""
        return not bool(self._busy[: self.busy_count].all())

    def start(self, rows: Numbers, state: State, frames: Sequence[Tensor], deadlines: Sequence[float]) -> None:
        """New samples, the next ones, in these slots."""
        if not self.state:
            self.state = tuple(tensor.new_zeros(len(self.t), *tensor.shape[1:]) for tensor in state)
        for tensor, new in zip(self.state, state, strict=True):
            tensor[torch.from_numpy(rows)] = new
        numbers = np.arange(self.taken, self.taken + len(rows))
        self.t[rows], self.segment[rows], self.sample[rows], self._busy[rows] = 0, 1, numbers, True
        self.deadline[rows] = deadlines
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

    def due(self, batch: int) -> tuple[int, Numbers]:
        """The segment that is run next, and the slots, at most so many, that run it: static shapes where they can be.

        The deepest segment with a full batch; without one, that of the sample that came first, so that nobody waits for
        ever. Fewer than a batch are a power of two: the rest waits for others.
        """
        if self._segments == 1:
            return 1, self._all[: self.busy_count]
        busy = self._busy.nonzero()[0]
        comes, sample = self.segment[busy], self.sample[busy]
        full = (np.bincount(comes, minlength=self._segments + 1) >= batch).nonzero()[0]
        oldest = sample.argmin()
        patient = self.taken - sample[oldest] <= _PATIENCE * len(self.t)
        segment = int(full[-1]) if len(full) and patient else int(comes[oldest])
        those = (comes == segment).nonzero()[0]
        count = batch if len(those) >= batch else 1 << (len(those).bit_length() - 1)
        first = those if count == len(those) else np.sort(those[sample[those].argsort()[:count]])
        return segment, busy[first]

    def advance(self, rows: Numbers, segment: int) -> None:
        """These slots have run a segment."""
        whole = segment == self._segments
        self.t[rows] += whole
        self.segment[rows] = 1 if whole else segment + 1

    def ask(self, policy: ExitPolicy, progress: Progress, logits_sum: Tensor, rows: Numbers, going_on: Flags) -> Flags:
        """Which samples of ``rows`` the policy stops; it is asked about those that can go on."""
        stop = np.zeros(len(rows), dtype=np.bool_)
        if not going_on.any():
            return stop
        slots = torch.from_numpy(rows[going_on])
        if not going_on.all():
            asked = torch.from_numpy(going_on)
            progress, logits_sum = progress[asked], logits_sum[asked]
        own = tuple(tensor[slots] for tensor in self.state)
        stopped, own = policy.stop(progress, logits_sum, own)
        for tensor, new in zip(self.state, own, strict=True):
            tensor[slots] = new.to(tensor.dtype)
        stop[going_on] = stopped.numpy()
        return stop

    def release(self, rows: Numbers) -> None:
        """These slots run nothing any more."""
        self._busy[rows] = False
        self.busy_count -= len(rows)
        for sample in self.sample[rows].tolist() if self._frames else ():
            self._frames.pop(sample, None)

    def keep(self) -> Numbers:
        """Closes the holes; returns the rows that move to the front."""
        rows = self._busy.nonzero()[0]
        for values in (self.t, self.segment, self.sample, self.deadline):
            values[: len(rows)] = values[rows]
        for tensor in self.state:
            tensor[: len(rows)] = tensor[torch.from_numpy(rows)]
        self._busy[:] = False
        self._busy[: len(rows)] = True
        return rows

    def watch(self, stepped: Numbers, observers: Sequence[Observer]) -> Callable[..., None]:
        """What slots show the spikes of those that are stepped to."""

        def see(site: str, first: int, counts: Tensor, *, initial: bool = False) -> None:
            rows = stepped[first : first + len(counts)]
            t = torch.from_numpy(np.zeros_like(rows) if initial else self.t[rows] + 1)
            for observer in observers:
                observer.spikes(t, torch.from_numpy(self.sample[rows]), site, counts)

        return see
