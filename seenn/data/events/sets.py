"""Folders of recordings, one file each, as event data sets are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from seenn.data.events.frames import Events, to_frames
from seenn.data.preprocessing import Preprocessing
from seenn.data.reading import list_files
from seenn.data.registry import Request
from seenn.data.source import FileImages, Labelled, Source
from seenn.errors import DataError

POLARITIES = 2


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
    chiral: bool

    def __call__(self, request: Request) -> Source:
        """The recordings below ``data_dir``, or below the folder that tonic makes in it.

        Networks see plain counts of events: mean 0, and a standard deviation of one event.

        Raises:
            DataError: no folder was given, or its files are missing or belong to no class.
        """
        layout = " and ".join(f"{part or '.'}/**/*{self.suffix}" for part in self.parts)
        folder = request.data_dir
        if folder is None:
            raise DataError(f"data {self.name!r}: give its folder as data_dir (--data-dir), with {layout} in it")
        roots = [root for root in (folder, folder / self.folder) if list_files(root / self.parts[0], {self.suffix})]
        if not roots:
            raise DataError(f"{folder}: no recordings of {self.name}; expected {layout} in it")
        train, *test = [self._read_part(roots[0] / part, request.frames) for part in self.parts]
        mean, std = (0.0,) * POLARITIES, (1 / 255,) * POLARITIES
        return Source(
            train=train,
            test=test[0] if test else None,
            class_names=self.class_names,
            preprocessing=Preprocessing(channels=POLARITIES, height=self.side, width=self.side, mean=mean, std=std),
            chiral=self.chiral,
        )

    def _read_part(self, folder: Path, frames: int) -> Labelled:
        paths = list_files(folder, {self.suffix})
        if not paths:
            raise DataError(f"{folder}: no files *{self.suffix}; fetch {self.name} again")
        names = [self.label(path) for path in paths]
        if unknown := sorted({name for name in names if name not in self.labels}):
            raise DataError(
                f"{folder}: {', '.join(unknown[:8])} say no class of {self.name}; expected {', '.join(self.labels)}"
            )
        labels = torch.tensor([self.labels.index(name) for name in names])
        return Labelled(FileImages(paths, partial(self._read_frames, frames=frames), frames), labels)

    def _read_frames(self, path: Path, frames: int) -> Tensor:
        return to_frames(path, self.read(path), frames, height=self.side, width=self.side)
