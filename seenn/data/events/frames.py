"""Events as frames: how many of each polarity every pixel had in each part of the recording."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.errors import DataError

logger = logging.getLogger(__name__)

MOST = 255  # events of a pixel in a frame: frames are bytes


@dataclass(frozen=True, kw_only=True)
class Events:
    """One recording: as many entries in each array as there are events, in any order."""

    x: NDArray[Any]  # column, from 0
    y: NDArray[Any]  # row, from 0
    t: NDArray[Any]  # time, in any unit
    p: NDArray[Any]  # polarity, 0 or 1


def to_frames(where: object, events: Events, frames: int, *, height: int, width: int) -> Tensor:
    """Counts of events, uint8 ``[T, 2, H, W]``: T parts of equal duration from the first event to the last.

    An event at time t falls into frame ``⌊T·(t − t_first)/(t_last − t_first + 1)⌋``. A pixel with more than 255
    events in one frame counts 255, with a warning.

    Args:
        where: what messages call the recording.
        frames: T.
        height, width: of the sensor, in pixels.

    Raises:
        DataError: there are no events, or some lie outside the sensor or have another polarity than 0 and 1.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}, expected 1 or more")
    x, y, t, p = (np.asarray(values).astype(np.int64) for values in (events.x, events.y, events.t, events.p))
    if not len(t):
        raise DataError(f"{where}: there are no events in it; leave the recording out, or fetch it again")
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p > 1)
    if outside.any():
        first = int(outside.argmax())
        raise DataError(
            f"{where}: {int(outside.sum())} of {len(t)} events are not of a sensor of {width}×{height} pixels, the "
            f"first at x = {x[first]}, y = {y[first]} with polarity {p[first]}: the file is damaged or of another "
            "kind; fetch it again"
        )
    since = t - t.min()
    frame = since * frames // (since.max() + 1)
    cell = ((frame * 2 + p) * height + y) * width + x
    counts = np.bincount(cell, minlength=frames * 2 * height * width)
    if (over := int((counts > MOST).sum())) > 0:
        logger.warning("%s: %d pixels have more than %d events in a frame and count %d", where, over, MOST, MOST)
    pixels = counts.clip(max=MOST).astype(np.uint8).reshape(frames, 2, height, width)
    return torch.from_numpy(pixels)


class TonicDataset(Protocol):
    """What tonic's data sets have in common: a sensor's size, and structured events with a label by index."""

    sensor_size: tuple[int, int, int]  # width, height, polarities

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


def from_tonic(dataset: TonicDataset, *, frames: int, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Sequences of counts, float32 ``[T, N, 2, H, W]``, and labels ``[N]``, for ``seenn.predict`` and training loops.

    Args:
        dataset: of tonic, without a transform: its events have the fields x, y, t and p.
        frames: T.
        limit: the first so many recordings only.

    Raises:
        DataError: a recording is empty, or has events outside the sensor.
        ValueError: there are no recordings.
    """
    width, height, _ = dataset.sensor_size
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count == 0:
        raise ValueError("there are no recordings in the data set")
    sequences, labels = [], []
    for index in range(count):
        events, label = dataset[index]
        recording = Events(x=events["x"], y=events["y"], t=events["t"], p=events["p"])
        sequences.append(to_frames(f"recording {index}", recording, frames, height=height, width=width))
        labels.append(int(label))
    return torch.stack(sequences, dim=1).float(), torch.tensor(labels)
