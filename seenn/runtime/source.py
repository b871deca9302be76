"""Where a session's samples come from: batches at hand, or requests that may be slow to come."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.ops.arguments import number


@dataclass(frozen=True, kw_only=True)
class Request:
    """One sample of a stream.

    Raises:
        ValueError: ``deadline_ms`` is not above 0: no step can be run in no time.
    """

    image: Tensor  # prepared, [C, H, W], or frames [T, C, H, W]
    deadline_ms: float | None = None  # from when the sample is handed in; then it gets the best answer so far

    def __post_init__(self) -> None:
        if self.deadline_ms is not None:
            number("deadline_ms", self.deadline_ms, above=0.0)


@dataclass(frozen=True)
class Arrival:
    """A sample that was handed in, and the point of time by which it wants its answer."""

    inputs: Tensor
    deadline: float  # of time.perf_counter(), in seconds

    @classmethod
    def of(cls, request: Request) -> Arrival:
        """Handed in now.

        Raises:
            TypeError: it is none.
        """
        given: object = getattr(request, "image", None)
        if not isinstance(given, Tensor):
            got = type(request if given is None else given).__name__
            raise TypeError(
                f"a session takes Request(image=…) with a prepared tensor, got {got}: snn.stream takes pictures, "
                "arrays and tensors"
            )
        wait = torch.inf if request.deadline_ms is None else request.deadline_ms / 1000
        return cls(request.image, time.perf_counter() + wait)


class Source(Protocol):
    """Hands out samples while there are any; an error ends it and is kept until all others are answered."""

    error: Exception | None

    def take(self, most: int, *, wait: bool) -> list[Arrival]:
        """At most so many; with ``wait`` at least one, unless it has ended."""

    @property
    def ended(self) -> bool:
        """Whether it is known that nothing more comes."""

    def end(self, error: Exception | None = None) -> None:
        """Nothing more is wanted."""


class BatchSource:
    """Samples of batches that are at hand as soon as they are asked for."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._samples: Iterator[Tensor] | None = (sample for batch in batches for sample in batch.samples())
        self.error: Exception | None = None

    def take(self, most: int, *, wait: bool) -> list[Arrival]:
        found: list[Arrival] = []
        while self._samples is not None and len(found) < most:
            try:
                found.append(Arrival(next(self._samples), torch.inf))
            except StopIteration:
                self.end()
            except Exception as error:  # of a file that cannot be read, or whatever the caller's code raises
                self.end(error)
        return found

    @property
    def ended(self) -> bool:
        return self._samples is None

    def end(self, error: Exception | None = None) -> None:
        self._samples, self.error = None, self.error or error


class RequestSource:
    """Requests of an iterator that may take its time: a thread waits for it, so that running samples need not.

    A request is asked for when there is a free slot, no earlier; its deadline counts from when it came.
    """

    def __init__(self, requests: Iterable[Request]) -> None:
        self.error: Exception | None = None
        self._wanted = threading.Semaphore(0)
        self._came: queue.SimpleQueue[Arrival | Exception | None] = queue.SimpleQueue()
        self._asked = 0  # for requests that have not come yet
        self._ended = False
        threading.Thread(target=self._wait_for, args=(iter(requests),), daemon=True).start()

    def take(self, most: int, *, wait: bool) -> list[Arrival]:
        found: list[Arrival] = []
        while self._asked < most and not self._ended:
            self._asked += 1
            self._wanted.release()
        while not self._ended and len(found) < most:
            try:
                came = self._came.get(block=wait and not found)
            except queue.Empty:
                break
            if isinstance(came, Arrival):
                self._asked -= 1
                found.append(came)
            else:
                self.end(came)
        return found

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self, error: Exception | None = None) -> None:
        self._ended, self.error = True, self.error or error
        self._wanted.release()

    def _wait_for(self, requests: Iterator[Request]) -> None:
        while True:
            self._wanted.acquire()
            if self._ended:
                return None
            try:
                self._came.put(Arrival.of(next(requests)))
            except StopIteration:
                return self._came.put(None)
            except Exception as error:  # of the caller's code: raised where the answers are read
                return self._came.put(error)
