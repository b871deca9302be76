"""A folder of image files, one subfolder a class, as ImageNet is stored; decoded when asked for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from seenn.data.imagenet import likely_preprocessing
from seenn.data.parts import choose_parts, part_of, parts_among, sounds_like_part
from seenn.data.picture import SUFFIXES, read_picture, say_left_out
from seenn.data.reading import is_hidden, list_files
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import FileImages, Labelled, Source
from seenn.errors import DataError, listed

logger = logging.getLogger(__name__)


@DATA_SETS.register("imagefolder")
@needs("path")
def imagefolder(request: Request) -> Source:
    """``path/train/CLASS/*`` with ``path/test/CLASS/*`` or ``path/val/CLASS/*``; or ``path/CLASS/*`` alone.

    The parts have the names that ``seenn.data.parts`` lists, in any case; of one part alone all splits are dealt.
    Classes are numbered in the order of their folders' names, and files are in the order of theirs. Hidden folders
    and files are left out, at any depth. ``group_by`` is a level of folders below the class, from 1.

    Raises:
        DataError: the folder is missing, has no classes, a class without images, or test classes that have
            no folder in train.
    """
    path = request.path
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; expected imagefolder:PATH with one subfolder a class")
    folders = _subfolders(path)
    named = parts_among(folder.name for folder in folders)
    parts = [folder for folder in folders if folder.name in named and _subfolders(folder)]
    if not parts:
        if len({part_of(name) for name in named}) > 1:
            raise DataError(
                f"{path}: {'/ and '.join(named)}/ hold pictures and no class folders: make a folder for each class in "
                "them, or list the pictures in a table with columns path, label and split, manifest:TABLE"
            )
        train_dir, test_dir = path, None
        alike = any(sounds_like_part(folder.name) for folder in folders)
        inside = {tuple(inner.name for inner in _subfolders(folder)) for folder in folders}
        if alike and request.group_by is None and len(inside) == 1 < len(folders) and len(*inside) > 1:
            names = ", ".join(folder.name for folder in folders[:4])
            logger.warning(
                "%s: %s hold the same folders, and are taken for classes; parts are called train, val or test",
                path,
                names,
            )
    else:
        if others := [folder.name for folder in folders if folder not in parts]:
            logger.warning("%s: beside its parts, these folders are left out: %s", path, ", ".join(others))
        chosen = choose_parts(path, [folder.name for folder in parts])
        train_dir, test_dir = path / chosen[0], None if chosen[1] is None else path / chosen[1]
    train = _classes(train_dir)
    test = {} if test_dir is None else _classes(test_dir)
    if unknown := sorted(set(test) - set(train)):
        raise DataError(
            f"{test_dir}: classes that {train_dir} does not have: {listed(unknown)}; remove them, or add training "
            "images"
        )
    level = _level(request.group_by)
    files = [file for found in train.values() for file in found]
    return Source(
        train=_part(train_dir, train, train, level),
        test=None if test_dir is None else _part(test_dir, test, train, level),
        class_names=tuple(train),
        preprocessing=likely_preprocessing(files),
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, all in the order of their names."""
    names = [entry.name for entry in _subfolders(folder)]
    if not names:
        raise DataError(f"{folder}: has no subfolders; expected one for each class")
    others: Counter[str] = Counter()
    if len(names) == 1 and (inner := _subfolders(folder / names[0])):
        raise DataError(
            f"{folder}: only the folder {names[0]}, in which are {', '.join(f.name for f in inner[:4])}: name "
            f"imagefolder:{folder / names[0]}"
        )
    loose = [entry for entry in folder.iterdir() if not is_hidden(entry.name) and entry.suffix.lower() in SUFFIXES]
    if loose := [entry for entry in loose if entry.is_file()]:
        logger.warning("%s: %d pictures beside the folders of classes are left out", folder, len(loose))
    classes = {name: list_files(folder / name, SUFFIXES, others) for name in names}
    say_left_out(folder, others)
    if empty := [name for name, files in classes.items() if not files]:
        endings = " ".join(sorted(SUFFIXES))
        raise DataError(
            f"{folder}: classes without an image ({endings}): {listed(empty)}; add some, or remove the folders"
        )
    return classes


def _level(group_by: str | None) -> int | None:
    if group_by is None:
        return None
    if not group_by.isdecimal() or int(group_by) < 1:
        raise DataError(f"--group-by of folders must be a level below the class, from 1, got {group_by!r}")
    return int(group_by)


def _part(folder: Path, classes: Mapping[str, list[Path]], names: Iterable[str], level: int | None) -> Labelled:
    files = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    paths, labels = [path for path, _ in files], torch.tensor([label for _, label in files])
    groups = None if level is None else [_group(path, path.relative_to(folder).parts, level) for path in paths]
    return Labelled(FileImages(paths, read_picture), labels, groups)


def _group(path: Path, parts: tuple[str, ...], level: int) -> str:
    """The names from the class to the folder of that level."""
    if len(parts) < level + 2:  # the class, so many folders, the file
        raise DataError(
            f"{path}: lies in no folder of level {level} below its class, by which files are grouped: choose another "
            "--group-by"
        )
    return "/".join(parts[: level + 1])
