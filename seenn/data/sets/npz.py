"""Images and labels from a numpy ``.npz`` file; nothing in it is ever unpickled."""

from __future__ import annotations

import logging
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from seenn.data.reading import check_declared_size, reading
from seenn.data.registry import DATA_SETS, Request, needs
from seenn.data.source import Source, labelled_arrays
from seenn.errors import DataError

logger = logging.getLogger(__name__)

# Images and labels in turn: of the one part, or of the training part and then the test part.
LAYOUTS = (
    ("images", "labels"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
CHANNELS = (1, 3)


@DATA_SETS.register("npz")
@needs("path")
def npz(request: Request) -> Source:
    """uint8 images ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``, integer labels ``[N]`` or ``[N, 1]``.

    Every class from 0 to the largest label must have a training image. Arrays of other names are left out,
    with a warning.

    Raises:
        DataError: the file is missing, damaged or holds pickles; its arrays have other names, types or
            shapes, or shapes that do not tell which axis is the channels; labels do not fit.
    """
    path = request.path
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected npz:PATH with the arrays {_layouts_text()}")
    with reading(path), zipfile.ZipFile(path) as archive:
        names = _choose_layout(path, [entry.removesuffix(".npy") for entry in archive.namelist()])
        arrays = [_read_array(path, archive, name) for name in names]
    where = [f"{path}: {name}" for name in names[::2]]
    pixels = list(map(_channels_first, where, arrays[::2]))
    labels = list(map(_flat, arrays[1::2]))
    if len({part.shape[1:] for part in pixels}) > 1:
        shapes = " and ".join(str(list(part.shape[1:])) for part in pixels)
        raise DataError(f"{path}: training and test images differ in shape [C, H, W]: {shapes}")
    train = labelled_arrays(where[0], pixels[0], labels[0])
    num_classes = _count_classes(where[0], train.labels)
    return Source(
        train=train,
        test=labelled_arrays(where[1], pixels[1], labels[1], num_classes) if len(pixels) > 1 else None,
        class_names=tuple(map(str, range(num_classes))),
    )


def _choose_layout(path: Path, found: list[str]) -> tuple[str, ...]:
    complete = [names for names in LAYOUTS if set(names) <= set(found)]
    if len(complete) != 1:
        problem = "more than one of the layouts" if complete else "none of the layouts"
        raise DataError(f"{path}: has the arrays {', '.join(found)}: {problem} {_layouts_text()}")
    if rest := sorted(set(found) - set(complete[0])):
        logger.warning("%s: arrays that are left out: %s", path, ", ".join(rest))
    return complete[0]


def _layouts_text() -> str:
    return " or ".join(f"({', '.join(names)})" for names in LAYOUTS)


def _read_array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """The array, after its header was found to be true: numpy allocates whatever the header says."""
    where = f"{path}: {name}"
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which would have to be unpickled; store numbers")
    on_disk = min(entry.compress_size, path.stat().st_size)
    deflated = entry.compress_type != zipfile.ZIP_STORED
    check_declared_size(where, math.prod(shape) * dtype.itemsize, on_disk, deflated=deflated)
    with archive.open(entry) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
    return array


def _flat(labels: NDArray[Any]) -> NDArray[Any]:
    """Keras and MedMNIST store labels as a column."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _channels_first(where: str, images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim == 3:
        return images[:, np.newaxis]
    if images.ndim != 4:
        raise DataError(f"{where} has shape {list(images.shape)}, expected [N, H, W], [N, C, H, W] or [N, H, W, C]")
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if first == last:
        problem = "both axis 1 and axis 3" if first else "neither axis 1 nor axis 3"
        raise DataError(
            f"{where} has shape {list(images.shape)}: {problem} could be the channels (1 or 3), and seenn "
            "does not guess; store [N, H, W] for gray, or [N, 3, H, W] with sides above 3 for colour"
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _count_classes(where: str, labels: Tensor) -> int:
    classes = set(labels.tolist())
    num_classes: int = max(classes) + 1
    if len(classes) < num_classes:
        raise DataError(
            f"{where}: labels go up to {num_classes - 1} but only {len(classes)} of these classes have a "
            "training image; expected classes 0 to K-1, each with images: number them again"
        )
    return num_classes
