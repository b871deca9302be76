"""A folder of image files, one subfolder a class, as ImageNet is stored; decoded when asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from seenn.data.picture import SUFFIXES, read_picture
from seenn.data.preprocessing import Preprocessing
from seenn.data.reading import list_files
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import FileImages, Labelled, Source
from seenn.errors import DataError

logger = logging.getLogger(__name__)

IMAGENET = Preprocessing(
    channels=3, height=224, width=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875
)


@DATA_SETS.register("imagefolder")
@needs("path")
def imagefolder(request: Request) -> Source:
    """``path/train/CLASS/*`` with ``path/test/CLASS/*`` or ``path/val/CLASS/*``; or ``path/CLASS/*`` alone.

    Classes are numbered in the order of their folders' names, and files are in the order of theirs. Where
    both ``test`` and ``val`` are there, ``test`` is taken and a warning says so.

    Raises:
        DataError: the folder is missing, has no classes, a class without images, or test classes that have
            no folder in train.
    """
    path = request.path
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected imagefolder:PATH with one subfolder a class")
    if not (path / "train").is_dir():
        classes = _classes(path)
        return Source(train=_part(classes, classes), class_names=tuple(classes), preprocessing=IMAGENET)
    test_dirs = [path / name for name in ("test", "val") if (path / name).is_dir()]
    if not test_dirs:
        raise DataError(f"{path}: has train/ but neither test/ nor val/; expected one of them beside it")
    if len(test_dirs) > 1:
        logger.warning("%s: has test/ and val/; test/ is taken, val/ is left out", path)
    train, test = _classes(path / "train"), _classes(test_dirs[0])
    if unknown := sorted(set(test) - set(train)):
        raise DataError(f"{test_dirs[0]}: classes that {path / 'train'} does not have: {', '.join(unknown)}")
    return Source(train=_part(train, train), test=_part(test, train), class_names=tuple(train), preprocessing=IMAGENET)


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, all in the order of their names."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not names:
        raise DataError(f"{folder}: has no subfolders; expected one for each class")
    classes = {name: list_files(folder / name, SUFFIXES) for name in names}
    if empty := [name for name, files in classes.items() if not files]:
        endings = " ".join(sorted(SUFFIXES))
        raise DataError(f"{folder}: classes without an image ({endings}): {', '.join(empty)}")
    return classes


def _part(classes: Mapping[str, list[Path]], names: Iterable[str]) -> Labelled:
    files = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    return Labelled(FileImages([path for path, _ in files], read_picture), torch.tensor([label for _, label in files]))
