"""A folder of image files, one subfolder a class, as ImageNet is stored; decoded when asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seenn.data.picture import SUFFIXES, read_picture
from seenn.data.preprocessing import Preprocessing
from seenn.data.source import Labelled, Source
from seenn.errors import DataError

logger = logging.getLogger(__name__)

IMAGENET = Preprocessing(
    channels=3, height=224, width=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875
)


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded one by one."""

    paths: Sequence[Path]

    @property
    def in_memory(self) -> bool:
        return False

    @property
    def frames(self) -> int | None:
        return None

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        for index in indices.tolist():
            yield read_picture(self.paths[index]).unsqueeze(0)


def load_folder(path: Path) -> Source:
    """``path/train/CLASS/*`` with ``path/test/CLASS/*`` or ``path/val/CLASS/*``; or ``path/CLASS/*`` alone.

    Classes are numbered in the order of their folders' names, and files are in the order of theirs. Where
    both ``test`` and ``val`` are there, ``test`` is taken and a warning says so.

    Raises:
        DataError: the folder is missing, has no classes, a class without images, or test classes that have
            no folder in train.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected imagefolder:PATH with one subfolder a class")
    if not (path / "train").is_dir():
        class_names = _class_names(path)
        return _source(_read_tree(path, class_names), None, class_names)
    test_dirs = [path / name for name in ("test", "val") if (path / name).is_dir()]
    if not test_dirs:
        raise DataError(f"{path}: has train/ but neither test/ nor val/; expected one of them beside it")
    if len(test_dirs) > 1:
        logger.warning("%s: has test/ and val/; test/ is taken, val/ is left out", path)
    class_names = _class_names(path / "train")
    if unknown := sorted(set(_class_names(test_dirs[0])) - set(class_names)):
        raise DataError(f"{test_dirs[0]}: classes that {path / 'train'} does not have: {', '.join(unknown)}")
    return _source(_read_tree(path / "train", class_names), _read_tree(test_dirs[0], class_names), class_names)


def _source(train: Labelled, test: Labelled | None, class_names: tuple[str, ...]) -> Source:
    return Source(train=train, test=test, class_names=class_names, preprocessing=IMAGENET)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not names:
        raise DataError(f"{folder}: has no subfolders; expected one for each class")
    if empty := [name for name in names if not any(_image_files(folder / name))]:
        endings = " ".join(sorted(SUFFIXES))
        raise DataError(f"{folder}: classes without an image ({endings}): {', '.join(empty)}")
    return tuple(names)


def _read_tree(folder: Path, class_names: tuple[str, ...]) -> Labelled:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(_image_files(folder / name)) if (folder / name).is_dir() else []
        paths += found
        labels += [label] * len(found)
    return Labelled(FileImages(paths), torch.tensor(labels))


def _image_files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, onerror=_refuse):
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path


def _refuse(error: OSError) -> None:
    """For ``os.walk``, which would otherwise pass over a folder that it cannot list."""
    raise error
