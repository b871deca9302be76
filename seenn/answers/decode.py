"""Pictures to answers: decoded beside the engine, in processes that are a bounded number of blocks ahead of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seenn.answers.formats import COLUMNS, Row, one_line
from seenn.answers.pictures import Picture
from seenn.batch import Batch
from seenn.data.picture import for_channels
from seenn.data.preprocessing import Preparation, Preprocessing, suited
from seenn.device import processors
from seenn.errors import CheckpointError, DataError, SeennError
from seenn.runtime import Observer, Prediction, Session

if TYPE_CHECKING:
    from seenn.snn import SNN

MOST_WORKERS = 16  # that are started unasked
AHEAD = 4  # blocks that are decoded before they are asked for; at least 2 of each worker
ALONE = 1.0  # seconds after which a worker sees that nobody waits for it
SWITCH = 2e-4  # seconds for which a worker keeps the thread waiting that hands blocks over
FEW = 256  # pictures for which none is started
AT_ONCE = 1 << 20  # bytes of pictures of one shape that wait for others to be resized with

#: Path and error of each picture, and the pixels of those without one, or the network's input: an array is sent through
#: a pipe, in less time than a tensor takes, which is put into shared memory.
Decoded = tuple[list[tuple[str, str | None]], NDArray[Any]]


def answer_pictures(
    snn: SNN,
    session: Session,
    pictures: Iterable[Picture],
    *,
    workers: int | None = None,
    observers: Sequence[Observer] = (),
) -> Iterator[Row]:
    """One row a picture, in their order, with the columns of ``COLUMNS``; what cannot be read has an ``error``.

    Args:
        snn: whose preprocessing and class names are used.
        session: runs ``snn``.
        workers: processes that decode; 0 decodes in this one, None takes half of the processors for many pictures.
        observers: see every step.

    Raises:
        CheckpointError: the network does not record how pictures are prepared.
        SeennError: a worker was killed, or outputs are not finite.
    """
    if snn.preprocessing is None:
        raise CheckpointError(
            "this network does not record how pictures are prepared: state --mean and --std as in training"
        )
    blocks = _decoded(pictures, snn.preprocessing, workers, session.slots)
    waiting: deque[tuple[str, str | None]] = deque()  # of those that were decoded, and not answered yet
    most = session.timesteps + session.engine.initial_steps

    def batches() -> Iterator[Batch]:
        for found, pixels in blocks:
            waiting.extend(found)
            if len(pixels):
                yield snn.batch(torch.from_numpy(pixels))

    def row(path: str, error: str | None, answer: Prediction | None) -> Row:
        empty = dict.fromkeys(COLUMNS)
        if answer is None:
            return {**empty, "path": path, "error": error}
        steps = {
            "exit_timestep": session.engine.initial_steps + answer.exit_timestep,
            "exit_segment": answer.exit_segment,
            "cost": answer.cost / most,
        }
        return {**empty, "path": path, **said(answer), **steps}

    def said(answer: Prediction) -> Row:
        if task in ("classes", "binary"):
            return {"label": answer.label, "class": name(answer.label), "confidence": answer.confidence}
        scores = answer.outputs.double()
        if task == "labels":
            likely = scores.sigmoid()
            found = "|".join(map(name, (likely > 0.5).nonzero().flatten().tolist()))
            return {"class": found, "confidence": float(likely.maximum(1 - likely).min()), "values": likely.tolist()}
        return {"values": scores.tolist()}

    names, task = snn.class_names, snn.task

    def name(label: int) -> str:
        return one_line(names[label]) if label < len(names) else str(label)

    for answer in session.answers(batches(), observers=observers):
        while waiting[0][1] is not None:
            yield row(*waiting.popleft(), None)
        yield row(*waiting.popleft(), answer)
    yield from (row(*each, None) for each in waiting)


def check_sample(preparation: Preparation, sample: Picture) -> None:
    """Raises DataError where the network does not take the sample."""
    ((_, error),), _ = _Decoder(preparation).__getitems__([sample])
    if error is not None:
        raise DataError(error)


def _decoded(
    pictures: Iterable[Picture], preprocessing: Preparation, workers: int | None, size: int
) -> Iterator[Decoded]:
    """Blocks of ``size`` pictures, prepared up to the normalisation, or of numbers, prepared, in their order."""
    rest = iter(pictures)
    if workers is None:
        first = list(islice(rest, FEW))
        rest = chain(first, rest)
        workers = min(max(1, processors() // 2), MOST_WORKERS) if len(first) == FEW else 0
    loader: DataLoader[Any] = DataLoader(
        _Decoder(preprocessing),
        batch_sampler=iter(lambda: list(islice(rest, size)), []),
        num_workers=workers,
        prefetch_factor=max(2, AHEAD // workers) if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
        generator=torch.Generator(),  # so that the global one stays as it is
    )
    with _interrupts_later():
        blocks = iter(loader)
    try:
        yield from blocks
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise SeennError(
            "a process that decodes pictures was killed, perhaps for want of memory: use fewer "
            "--workers, or 0 to decode without them"
        ) from error


class _Decoder(Dataset[Any]):
    """Is asked for blocks of pictures as data sets are for numbers."""

    def __init__(self, preprocessing: Preparation) -> None:
        self._preprocessing = preprocessing

    def __getitems__(self, pictures: list[Picture]) -> Decoded:
        errors: list[str | None] = [None] * len(pictures)
        ready: dict[int, Tensor] = {}
        alike: dict[Any, dict[int, Tensor]] = {}  # of one shape, which are resized at once: faster, and the same

        def prepare(group: dict[int, Tensor]) -> None:
            try:
                ready.update(zip(group, self._prepared(torch.stack([*group.values()])), strict=True))
            except DataError as error:
                if len(group) > 1:  # perhaps only some of them
                    for place in group:
                        prepare({place: group[place]})
                    return
                (place,) = group
                errors[place] = one_line(f"{pictures[place].path}: {error}")

        for place, picture in enumerate(pictures):
            try:
                with for_channels(self._preprocessing.shape[0]):
                    pixels = picture.read()
            except DataError as error:
                errors[place] = one_line(str(error))
                continue
            group = alike.setdefault(kind := (pixels.dtype, pixels.shape), {})
            group[place] = pixels
            if len(group) * pixels.nbytes > AT_ONCE:
                prepare(alike.pop(kind))
        for group in alike.values():
            prepare(group)
        found = [(picture.path, error) for picture, error in zip(pictures, errors, strict=True)]
        samples = [ready[place] for place in sorted(ready)]
        if len({sample.dtype for sample in samples}) > 1:
            samples = [self._preprocessing.prepare(sample)[0] for sample in samples]
        return found, np.stack([sample.numpy() for sample in samples]) if samples else np.empty(0, np.uint8)

    def _prepared(self, samples: Tensor) -> Tensor:
        """Pictures up to the normalisation; numbers altogether."""
        pictures = samples.dtype == torch.uint8
        how = suited("this", self._preprocessing, pictures=pictures)
        if isinstance(how, Preprocessing):
            return how.pixels(samples)
        return self._preprocessing.prepare(how(samples))


def _as_it_is(block: Any) -> Any:
    return block


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Around forking, whose hooks would swallow a Ctrl-C, and a half-made loader cannot be taken apart: it comes after.

    A mask of this thread would not do: any other thread takes the signal, and the main one is interrupted all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _begin_worker(_: int) -> None:
    """Ctrl-C reaches every process of a terminal, and the one that writes answers ends the others.

    Where it was killed, nobody does: one of them would wait for ever to hand over what it has decoded.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    parent, starter = multiprocessing.parent_process(), os.getppid()  # not the same where a server forks

    def end() -> None:
        while os.getppid() == starter and (parent is None or parent.is_alive()):
            time.sleep(ALONE)
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
    sys.setswitchinterval(SWITCH)
