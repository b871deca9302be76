"""The event data sets that are known by name, and how their folders are laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seenn.data.events.frames import Events, to_frames
from seenn.data.events.read import read_aedat4, read_bin, read_npy
from seenn.data.preprocessing import Preprocessing
from seenn.data.source import Labelled, Source
from seenn.errors import DataError

POLARITIES = 2


@dataclass(frozen=True)
class RecordingImages:
    """Recordings, read and divided into frames one by one: uint8 ``[b, T, 2, H, W]``."""

    paths: Sequence[Path]
    read: Callable[[Path], Events]
    divided_into: int  # frames
    side: int  # of the square sensor, in pixels

    @property
    def frames(self) -> int | None:
        return self.divided_into

    @property
    def in_memory(self) -> bool:
        return False

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        for index in indices.tolist():
            path = self.paths[index]
            counts = to_frames(path, self.read(path), self.divided_into, height=self.side, width=self.side)
            yield counts.unsqueeze(0)


@dataclass(frozen=True, kw_only=True)
class EventSet:
    """A data set of recordings in files of one format."""

    name: str
    folder: str  # that tonic keeps it in, below its own folder of data
    parts: tuple[str, ...]  # folders of the training and the test part, or one of all
    suffix: str
    read: Callable[[Path], Events]
    side: int  # of the square sensor, in pixels
    class_names: tuple[str, ...]
    label: Callable[[Path], str]  # the name by which a file says its class, one of ``labels``
    labels: tuple[str, ...]


def load_event_set(event_set: EventSet, data_dir: Path | None, *, frames: int) -> Source:
    """The recordings below ``data_dir``, or below the folder that tonic makes in it.

    Networks see plain counts of events: mean 0, and a standard deviation of one event.

    Raises:
        DataError: no folder was given, or its files are missing or belong to no class.
    """
    layout = " and ".join(f"{part or '.'}/**/*{event_set.suffix}" for part in event_set.parts)
    if data_dir is None:
        raise DataError(f"data {event_set.name!r}: give its folder as data_dir (--data-dir), with {layout} in it")
    roots = [root for root in (data_dir, data_dir / event_set.folder) if _files(event_set, root, 0)]
    if not roots:
        raise DataError(f"{data_dir}: no recordings of {event_set.name}; expected {layout} in it")
    parts = [_part(event_set, roots[0], index, frames) for index in range(len(event_set.parts))]
    side = event_set.side
    return Source(
        train=parts[0],
        test=parts[1] if len(parts) > 1 else None,
        class_names=event_set.class_names,
        preprocessing=Preprocessing(
            channels=POLARITIES, height=side, width=side, mean=(0.0,) * POLARITIES, std=(1 / 255,) * POLARITIES
        ),
    )


def _files(event_set: EventSet, root: Path, index: int) -> list[Path]:
    return sorted((root / event_set.parts[index]).rglob(f"*{event_set.suffix}"))


def _part(event_set: EventSet, root: Path, index: int, frames: int) -> Labelled:
    paths = _files(event_set, root, index)
    if not paths:
        raise DataError(f"{root / event_set.parts[index]}: no files *{event_set.suffix}; fetch {event_set.name} again")
    names = [event_set.label(path) for path in paths]
    if unknown := sorted({name for name in names if name not in event_set.labels}):
        raise DataError(
            f"{root / event_set.parts[index]}: {', '.join(unknown[:8])} say no class of {event_set.name}; expected "
            f"{', '.join(event_set.labels)}"
        )
    labels = torch.tensor([event_set.labels.index(name) for name in names])
    return Labelled(RecordingImages(paths, event_set.read, frames, event_set.side), labels)


_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

N_MNIST = EventSet(
    name="n-mnist",
    folder="NMNIST",
    parts=("Train", "Test"),
    suffix=".bin",
    read=read_bin,
    side=34,
    class_names=_DIGITS,
    label=lambda path: path.parent.name,
    labels=_DIGITS,
)
DVS_GESTURE = EventSet(
    name="dvs-gesture",
    folder="DVSGesture",
    parts=("ibmGestureTrain", "ibmGestureTest"),
    suffix=".npy",
    read=read_npy,
    side=128,
    class_names=(
        "Hand clapping",
        "Right hand wave",
        "Left hand wave",
        "Right arm clockwise",
        "Right arm counter-clockwise",
        "Left arm clockwise",
        "Left arm counter-clockwise",
        "Arm roll",
        "Air drums",
        "Air guitar",
        "Other gestures",
    ),
    label=lambda path: path.stem,
    labels=tuple(map(str, range(11))),
)
CIFAR10_DVS = EventSet(
    name="cifar10-dvs",
    folder="CIFAR10DVS",
    parts=("",),
    suffix=".aedat4",
    read=read_aedat4,
    side=128,
    class_names=_CIFAR10,
    label=lambda path: path.parent.name,
    labels=_CIFAR10,
)
