"""A folder of image files, one subfolder a class, as ImageNet is stored; decoded when asked for.

Its parts lie around the classes, ``train/CLASS``, or in every class, ``CLASS/train``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

import torch

from seenn.data.imagenet import likely_preprocessing
from seenn.data.parts import choose_parts, image_of, masks_among, part_of, parts_among, sounds_like_part
from seenn.data.picture import SUFFIXES, read_picture, say_left_out
from seenn.data.reading import is_hidden, list_files
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import FileImages, Labelled, Source
from seenn.errors import DataError, listed

logger = logging.getLogger(__name__)

_MASKS_ARE_NO_IMAGES = (
    "and they would be taken for images of a class: move such files out of there, or list the images in a table with "
    "columns path and label, manifest:TABLE"
)


@DATA_SETS.register("imagefolder")
@needs("path")
def imagefolder(request: Request) -> Source:
    """``path/train/CLASS/*`` with ``path/test/CLASS/*`` or ``path/val/CLASS/*``; or ``path/CLASS/*`` alone.

    Where every class has the same parts in it and nothing else, ``path/CLASS/train/*``, they are those of the data.
    Parts have the names that ``seenn.data.parts`` lists, in any case; of one part alone all splits are dealt. Classes
    are numbered in the order of their folders' names, and files are in the order of theirs. Hidden folders and files
    are left out, at any depth. ``group_by`` is a level of folders below the class, and below such parts, from 1.

    Raises:
        DataError: the folder is missing, has no classes, a class without images, or test classes that have
            no folder in train; or parts in some classes alone, or masks beside the images of a class.
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
        inner = _parts_within(path, folders, grouped=request.group_by is not None)
        train_at, test_at = choose_parts(path, inner) if inner else ("", None)
        train_in = test_in = path
        train_dirs = {name: folder / train_at for name, folder in _class_folders(path).items()}
        test_dirs = {} if test_at is None else {folder.name: folder / test_at for folder in folders}
        alike = any(sounds_like_part(folder.name) for folder in folders)
        inside = {tuple(inner.name for inner in _subfolders(folder)) for folder in folders}
        if alike and not inner and request.group_by is None and len(inside) == 1 < len(folders) and len(*inside) > 1:
            names = ", ".join(folder.name for folder in folders[:4])
            logger.warning(
                "%s: %s hold the same folders, and are taken for classes; parts are called train, val or test",
                path,
                names,
            )
    else:
        others = [folder for folder in folders if folder not in parts]
        _refuse_class_called_as_part(path, parts, others)
        if others:
            logger.warning(
                "%s: beside its parts, these folders are left out: %s", path, ", ".join(other.name for other in others)
            )
        train_at, test_at = choose_parts(path, [folder.name for folder in parts])
        train_in, test_in = path / train_at, path / (test_at or "")
        train_dirs = _class_folders(train_in)
        test_dirs = {} if test_at is None else _class_folders(test_in)
    train = _classes(train_in, train_dirs)
    test = _classes(test_in, test_dirs) if test_dirs else {}
    if unknown := sorted(set(test) - set(train)):
        raise DataError(
            f"{test_in}: classes that {train_in} does not have: {listed(unknown)}; remove them, or add training images"
        )
    _say_order(path, list(train))
    level = _level(request.group_by)
    files = [file for found in train.values() for file in found]
    return Source(
        train=_part(train_dirs, train, train, level),
        test=None if test_at is None else _part(test_dirs, test, train, level),
        class_names=tuple(train),
        preprocessing=likely_preprocessing(files),
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def _say_order(path: Path, names: list[str]) -> None:
    """Warns where classes are called by numbers, and the alphabet has another order than these."""
    if all(name.isdecimal() for name in names) and names != sorted(names, key=int):
        logger.warning(
            "%s: classes are numbered by the alphabet, as torchvision does: %s; for the order of numbers write them "
            "with as many digits each, 00, 01, …, or list the pictures in a table, manifest:TABLE",
            path,
            listed(names),
        )


def _refuse_class_called_as_part(path: Path, parts: list[Path], others: list[Path]) -> None:
    """Raises DataError where one of several like folders alone is called as parts are."""
    inside = [[inner.name for inner in _subfolders(folder)] for folder in (*parts, *others)]
    if len(parts) == 1 < len(others) and all(names == inside[0] for names in inside):
        raise DataError(
            f"{path}: {parts[0].name} is called as a part of the data, and holds the same folders as "
            f"{listed(other.name for other in others)}: rename it where it is a class, else move the others away"
        )


def _parts_within(path: Path, folders: list[Path], *, grouped: bool) -> list[str]:
    """The parts that every class has in it, and nothing beside them; none where no class has several.

    Raises:
        DataError: some classes have other parts or something beside them, or the parts are of several data sets.
    """
    inside = {folder.name: _content(folder) for folder in folders}
    parted = [name for name, names in inside.items() if len({part_of(part) for part in parts_among(names)}) > 1]
    if not parted or len(folders) == 1:
        return []
    first = inside[parted[0]]
    other = next((name for name, names in inside.items() if names != first), None)
    if other is not None or not all(map(part_of, first)):
        also = "" if other is None else f", and {other} {listed(inside[other]) or 'nothing'}"
        raise DataError(
            f"{path}: the class {parted[0]} has {listed(first)} in it{also}; expected the same parts in every class, "
            "and nothing beside them: move them to train/CLASS and test/CLASS, or list the pictures in a table with "
            "columns path, label and split, manifest:TABLE"
        )
    below = {tuple(entry.name for entry in _subfolders(folder / part)) for folder in folders for part in first}
    if not grouped and len(below) == 1 and len(*below) > 1:
        raise DataError(
            f"{path}: {listed(inside)} each have {listed(first)} with the same folders in them, {listed(*below)}: they "
            f"look like several data sets; name one of them, imagefolder:{folders[0]}"
        )
    return first


def _content(folder: Path) -> list[str]:
    """The names of the folders in it, and that there are pictures."""
    pictures = any(entry.suffix.lower() in SUFFIXES and not is_hidden(entry.name) for entry in folder.iterdir())
    return [*(entry.name for entry in _subfolders(folder)), *(["pictures alone"] if pictures else [])]


def _refuse_masks(folder: Path, files: Iterable[Path]) -> None:
    """Raises DataError where masks lie beside the images that they belong to: they would be pictures of a class."""
    folders: dict[Path, set[str]] = {}
    stems: dict[Path, set[str]] = {}
    for file in files:
        stems.setdefault(file.parent, set()).add(file.stem)
        inner = file.parent
        while inner != folder and inner.name not in folders.setdefault(inner.parent, set()):
            folders[inner.parent].add(inner.name)
            inner = inner.parent
    for place, names in sorted(folders.items()):
        if found := masks_among(sorted(names)):
            raise DataError(f"{place}: {found[1]} has pictures beside {found[0]}, {_MASKS_ARE_NO_IMAGES}")
    for place, names in sorted(stems.items()):
        if masks := sorted(name for name in names if (image_of(name) or name) in names - {name}):
            raise DataError(
                f"{place}: {len(masks)} pictures are called masks of others, {masks[0]} beside {image_of(masks[0])}, "
                f"{_MASKS_ARE_NO_IMAGES}"
            )


def _class_folders(folder: Path) -> dict[str, Path]:
    found = {entry.name: entry for entry in _subfolders(folder)}
    if not found:
        raise DataError(f"{folder}: has no subfolders; expected one for each class")
    return found


def _classes(folder: Path, folders: Mapping[str, Path]) -> dict[str, list[Path]]:
    """The image files of each class, which lie in ``folders`` below ``folder``, all in the order of their names."""
    names = list(folders)
    others: Counter[str] = Counter()
    if len(names) == 1 and (inner := _subfolders(folder / names[0])):
        raise DataError(
            f"{folder}: only the folder {names[0]}, in which are {', '.join(f.name for f in inner[:4])}: name "
            f"imagefolder:{folder / names[0]}"
        )
    loose = [entry for entry in folder.iterdir() if not is_hidden(entry.name) and entry.suffix.lower() in SUFFIXES]
    if loose := [entry for entry in loose if entry.is_file()]:
        logger.warning("%s: %d pictures beside the folders of classes are left out", folder, len(loose))
    classes = {name: list_files(place, SUFFIXES, others) for name, place in folders.items()}
    _refuse_masks(folder, chain.from_iterable(classes.values()))
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


def _part(
    folders: Mapping[str, Path], classes: Mapping[str, list[Path]], names: Iterable[str], level: int | None
) -> Labelled:
    files = [(path, label, name) for label, name in enumerate(names) for path in classes.get(name, ())]
    paths, labels = [path for path, *_ in files], torch.tensor([label for _, label, _ in files])
    groups = None
    if level is not None:
        groups = [_group(path, (name, *path.relative_to(folders[name]).parts), level) for path, _, name in files]
    return Labelled(FileImages(paths, read_picture), labels, groups)


def _group(path: Path, parts: tuple[str, ...], level: int) -> str:
    """The names from the class to the folder of that level."""
    if len(parts) < level + 2:  # the class, so many folders, the file
        raise DataError(
            f"{path}: lies in no folder of level {level} below its class, by which files are grouped: choose another "
            "--group-by"
        )
    return "/".join(parts[: level + 1])
