"""Samples and labels from a numpy ``.npz`` file; nothing in it is ever unpickled."""

from __future__ import annotations

import logging
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from seenn.data.labels import numbered, told_task
from seenn.data.parts import choose_parts, part_of
from seenn.data.reading import check_declared_size, reading
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import Labelled, Source, labelled_arrays
from seenn.errors import DataError

logger = logging.getLogger(__name__)

IMAGES, LABELS = ("images", "image", "x", "data", "samples", "signals"), ("labels", "label", "y", "target", "targets")
CHANNELS = (1, 3)


@DATA_SETS.register("npz")
@needs("path")
def npz(request: Request) -> Source:
    """uint8 images ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``, or floats as the network takes them.

    Names are ``images`` and ``labels``, ``X`` and ``y``, …, in any case; with a part before or behind them,
    ``x_train``, ``train_images``, as ``seenn.data.parts`` says. Floats may be images, signals ``[N, C, L]`` or tables
    ``[N, F]``. Labels are as ``seenn.data.labels`` says; every class from 0 to the largest must have a training image.
    ``group_by`` is an array ``[N]``, with the part's name as the images have it. Other arrays are left out, with a
    warning.

    Raises:
        DataError: the file is missing, damaged or holds pickles; its arrays have other names, types or
            shapes, or shapes that do not tell which axis is the channels; labels do not fit.
    """
    path = request.path
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected npz:PATH with the arrays {_EXPECTED}")
    _refuse_other_files(path)
    with reading(path), zipfile.ZipFile(path) as archive:
        found = [entry.removesuffix(".npy") for entry in archive.namelist()]
        chosen = _choose(path, found, request.group_by)
        arrays = [[_read_array(path, archive, name) for name in names if name] for names in chosen]
    where = [f"{path}: {names[0]}" for names in chosen]
    samples = [channels_first(there, found[0]) for there, found in zip(where, arrays, strict=True)]
    if len({part.shape[1:] for part in samples}) > 1:
        shapes = " and ".join(str(list(part.shape[1:])) for part in samples)
        raise DataError(f"{path}: training and test images differ in shape [C, H, W]: {shapes}; store them alike")
    class_names, labels = numbered(path, [found[1] for found in arrays])
    task = told_task(labels)
    train = labelled_arrays(where[0], samples[0], labels[0], task=task)
    classes = task == "classes"
    count = _count_classes(where[0], train.labels) if classes else train.labels[0].numel()
    parts = [train]
    if len(samples) > 1:
        parts.append(labelled_arrays(where[1], samples[1], labels[1], count if classes else None, task=task))
    if request.group_by is not None:
        parts = [replace(p, groups=_groups(where, p, a[2])) for p, a in zip(parts, arrays, strict=True)]
    return Source(
        train=parts[0],
        test=parts[1] if len(parts) > 1 else None,
        class_names=class_names or tuple(map(str, range(count))),
    )


def read_samples(path: Path) -> tuple[str, NDArray[Any]]:
    """Where the samples are, and these alone, as stored: of a ``.npz`` file, or a ``.npy`` file, which is mapped.

    Raises:
        DataError: the file is missing, damaged or holds pickles; or it has samples of several parts, or none.
    """
    with reading(path), path.open("rb") as stream:
        if stream.read(len(_NPY)) == _NPY:
            stream.seek(0)
            _read_header(str(path), stream)
            return str(path), np.load(path, mmap_mode="r", allow_pickle=False)
    _refuse_other_files(path)
    with reading(path), zipfile.ZipFile(path) as archive:
        names = [entry.removesuffix(".npy") for entry in archive.namelist()]
        chosen = [name for name in names if _role(name, None)[0] == "images"] or names[:1] * (len(names) == 1)
        if len(chosen) != 1:
            raise DataError(
                f"{path}: has the arrays {', '.join(names) or '(none)'}: expected one of samples, called {IMAGES[0]}; "
                "store those to answer alone"
            )
        return f"{path}: {chosen[0]}", _read_array(path, archive, chosen[0])


_NPY = b"\x93NUMPY"
_EXPECTED = "(images, labels), (X, y), (x_train, y_train, x_test, y_test) or (train_images, train_labels, …)"


#: How files begin that are no zip of arrays, and what to do with them.
_OTHERS = {
    _NPY: "is one array (.npy): store both, np.savez(FILE, images=…, labels=…)",
    b"MATLAB": "is of MATLAB: read it with scipy.io.loadmat and store it with np.savez(FILE, images=…, labels=…)",
    b"\x89HDF": "is HDF5: read it with h5py and store it with np.savez(FILE, images=…, labels=…)",
}


def _refuse_other_files(path: Path) -> None:
    with reading(path), path.open("rb") as stream:
        head = stream.read(8)
    if found := next((advice for magic, advice in _OTHERS.items() if head.startswith(magic)), None):
        raise DataError(f"{path}: {found}")


def _choose(path: Path, found: list[str], group_by: str | None) -> list[tuple[str, str, str | None]]:
    """Names of samples, labels and groups, of the one part or of the training and the test part."""
    roles: dict[str, dict[str, list[str]]] = {"images": {}, "labels": {}, "groups": {}}
    for name in found:
        role, part = _role(name, group_by)
        if role:
            roles[role].setdefault(part, []).append(name)
    twice = [names for parts in roles.values() for names in parts.values() if len(names) > 1]
    if twice or ("" in roles["images"] and len(roles["images"]) > 1 and "train" in map(part_of, roles["images"])):
        raise DataError(
            f"{path}: has the arrays {', '.join(found)}: more than one of the layouts {_EXPECTED}; keep one"
        )
    named = [part for part in roles["images"] if part and part in roles["labels"]]
    if "" in roles["images"] and "" in roles["labels"]:
        chosen = [""]
    elif named:
        train, test = choose_parts(path, named)
        chosen = [train] if test is None else [train, test]
    else:
        raise DataError(f"{path}: has the arrays {', '.join(found)}: expected {_EXPECTED}")
    if group_by is not None and (lacking := [part for part in chosen if part not in roles["groups"]]):
        raise DataError(
            f"{path}: has no array {group_by} of {' and '.join(lacking) or 'the images'} to group by: choose another "
            "--group-by"
        )
    names = [(roles["images"][p][0], roles["labels"][p][0], roles["groups"].get(p, [None])[0]) for p in chosen]
    if rest := sorted(set(found) - {name for part in names for name in part}):
        logger.warning("%s: arrays that are left out: %s", path, ", ".join(rest))
    return names


def _role(name: str, group_by: str | None) -> tuple[str, str]:
    """What an array is, ``images``, ``labels``, ``groups`` or nothing, and of which part by its own name."""
    head, _, tail = name.partition("_")
    splits = [(name, "")]
    splits += [(tail, head)] if part_of(head) else []
    splits += [(head, tail)] if part_of(tail) else []
    for plain, part in splits:
        for role, names in (("images", IMAGES), ("labels", LABELS), ("groups", (group_by,))):
            if plain.lower() in names or plain in names:
                return role, part
    return "", ""


def _read_array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """The array, after its header was found to be true: numpy allocates whatever the header says."""
    where = f"{path}: {name}"
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as stream:
        shape, dtype = _read_header(where, stream)
    on_disk = min(entry.compress_size, path.stat().st_size)
    deflated = entry.compress_type != zipfile.ZIP_STORED
    check_declared_size(where, math.prod(shape) * dtype.itemsize, on_disk, deflated=deflated)
    with archive.open(entry) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array


def _read_header(where: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array that begins here."""
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which would have to be unpickled; store numbers, and names by .astype(str)"
        )
    return shape, dtype


def _groups(where: object, part: Labelled, groups: NDArray[Any]) -> list[str]:
    if groups.shape != (len(part.labels),):
        raise DataError(f"{where}: groups have shape {list(groups.shape)}, expected one for each image")
    return list(map(str, groups.tolist()))


def channels_first(where: str, images: NDArray[Any]) -> NDArray[Any]:
    """Images ``[N, C, H, W]``; signals, tables and volumes as they are."""
    if images.ndim == 3 and images.dtype.kind != "f":
        return images[:, np.newaxis]
    if images.ndim != 4:
        return images
    _, one, middle, last = images.shape
    first_fits, last_fits = one in CHANNELS, last in CHANNELS
    if not first_fits and not last_fits:  # of four or more channels: the axis that is unlike the two sides
        first_fits, last_fits = middle == last != one, one == middle != last
    if first_fits == last_fits:
        problem = "both axis 1 and axis 3" if first_fits else "neither axis 1 nor axis 3"
        raise DataError(
            f"{where} has shape {list(images.shape)}: {problem} could be the channels, and seenn does not guess; "
            "store [N, H, W] for gray, else [N, C, H, W] with C of 1 or 3"
        )
    return images if first_fits else images.transpose(0, 3, 1, 2)


def _count_classes(where: str, labels: Tensor) -> int:
    classes = set(labels.tolist())
    num_classes: int = max(classes) + 1
    if len(classes) < num_classes:
        raise DataError(
            f"{where}: labels go up to {num_classes - 1} but only {len(classes)} of these classes have a "
            "training image; expected classes 0 to K-1, each with images: number them again"
        )
    return num_classes
