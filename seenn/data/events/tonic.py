"""Any data set of the package tonic as images of ours; tonic itself is not needed here."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from seenn.data.events.frames import Events, to_frames


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
