"""Data that a program holds, as sources of labelled samples: see ``seenn.data.given`` for what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset

from seenn.data.arrays import as_numbers, is_array, type_of
from seenn.data.given import LABELS, Given, told
from seenn.data.imagenet import IMAGENET, LARGEST_INPUT, LOOKED_AT, likely_preprocessing
from seenn.data.inputs import as_picture, as_tensor
from seenn.data.labels import Task, as_labels, numbered, task_of, told_task
from seenn.data.parts import choose_parts, has_parts
from seenn.data.picture import read_picture
from seenn.data.preprocessing import Preprocessing
from seenn.data.source import ArrayImages, FileImages, Images, ItemImages, Labelled, Source, as_samples, labelled_arrays
from seenn.errors import DataError, DataTypeError

_RGB = 3  # channels of a network that nobody knows
_WHERE = "the data"


def source_of(data: Any, *, channels: int = _RGB) -> Source:
    """One part of what a program holds; or two, of a mapping from names as of ``seenn.data.parts``.

    ``channels`` are those that pictures are read for.

    Raises:
        DataTypeError: it is no data, or has no labels.
        DataError: samples that are others each time; labels that are none.
    """
    if has_parts(data):
        train, test = choose_parts(_WHERE, data)
        return source_of_parts(data[train], None if test is None else data[test], channels=channels)
    return source_of_parts(data, None, channels=channels)


def source_of_parts(train: Any, test: Any, *, channels: int = _RGB) -> Source:
    """A training part, and a test part unless it is None; raises as :func:`source_of`."""
    given = [told(train)] if test is None else [told(train), told(test)]
    names, labels = numbered(_WHERE, [labels_of(part) for part in given])
    task = told_task(labels)
    parts = [labelled(part, found, channels=channels, task=task) for part, found in zip(given, labels, strict=True)]
    return Source(
        train=parts[0],
        test=None if test is None else parts[1],
        class_names=names or class_names(given[0].source, parts[0].labels),
        preprocessing=_photographs(parts[0].images),
    )


def labels_of(given: Given) -> NDArray[Any]:
    """The labels.

    Raises:
        DataTypeError: there are none.
    """
    if given.labels is None:
        raise DataTypeError(
            "the data are samples without labels: give both, a pair (samples, labels), or a data set of pairs"
        )
    return given.labels()


def labelled(given: Given, labels: NDArray[Any], *, channels: int = _RGB, task: Task | None = None) -> Labelled:
    """The samples with these labels, see ``seenn.data.labels.as_labels``; ``channels`` are the network's.

    Raises:
        DataError: samples of several types, or that are others each time; labels that are none, or not one a sample.
    """
    if given.is_stack:
        return labelled_arrays(_WHERE, _stack(given.samples, channels), labels, task=task)
    if len(given.samples) != len(labels):
        raise DataError(f"{_WHERE}: {len(given.samples)} images but {len(labels)} labels; expected one label each")
    images = images_of(given, channels)
    where = _WHERE if isinstance(images, FileImages) else "the data set"
    return Labelled(images, as_labels(where, labels, task=task))


def images_of(given: Given, channels: int = _RGB) -> Images:
    """The samples as they were given, in an array or to be read one by one; raises as :func:`labelled`."""
    if given.is_stack:
        return ArrayImages(torch.from_numpy(as_samples(_WHERE, _stack(given.samples, channels))))
    items = given.samples
    if isinstance(items[0], str | Path):
        return FileImages([Path(file) for file in items], read_picture)
    first, again = _sample(items[0], channels), _sample(items[0], channels)
    if not torch.equal(first, again):
        raise DataError("the data set gives another sample each time: take random changes out of its transform")
    return ItemImages(lambda index: _sample(items[index], channels), len(items), pictures=first.dtype == torch.uint8)


def class_names(data: Any, labels: Tensor) -> tuple[str, ...]:
    """As the data set says them; else numbers."""
    if isinstance(data, Subset):
        return class_names(data.dataset, labels)
    features = getattr(data, "features", None)
    said: Any = getattr(data, "classes", None)
    if isinstance(features, Mapping):
        said = next((names for key in LABELS if (names := getattr(features.get(key), "names", None))), said)
    count = labels[0].numel() if task_of(labels) != "classes" else int(labels.max()) + 1
    if isinstance(said, Sequence) and not isinstance(said, str) and len(said) >= count:
        return tuple(map(str, said))
    return tuple(map(str, range(count)))


def _photographs(images: Images) -> Preprocessing | None:
    """ImageNet's preprocessing for pictures of several sizes, or of one that is no network's; None: to be measured."""
    if isinstance(images, FileImages):
        return likely_preprocessing(images.files)
    if not isinstance(images, ItemImages) or not images.pictures:
        return None
    some = torch.arange(0, images.count, math.ceil(images.count / LOOKED_AT))
    shapes = {tuple(block.shape[1:]) for block in images.blocks(some)}
    return None if len(shapes) == 1 and max(max(shapes)) <= LARGEST_INPUT else IMAGENET


def _stack(samples: Any, channels: int) -> NDArray[Any]:
    """An array of samples; pictures with their channels first, gray ones with an axis for them."""
    numbers = as_numbers(samples)
    if numbers is None:
        raise DataTypeError(f"samples are {type_of(samples)}: expected numbers")
    if numbers.dtype == torch.uint8 and numbers.dim() in (3, 4):
        numbers = numbers[:, None] if numbers.dim() == 3 else as_tensor(numbers, _pictures_of(channels))
    array: NDArray[Any] = (numbers.float() if numbers.is_floating_point() else numbers).cpu().numpy()
    return array


def _sample(item: Any, channels: int) -> Tensor:
    """Pixels uint8 ``[C, H, W]`` or numbers."""
    if isinstance(item, list | tuple):
        item = np.asarray(item)
    if not is_array(item):
        return as_picture(item)
    numbers = as_numbers(item)
    if numbers is not None and numbers.dtype == torch.uint8:
        return as_tensor(numbers, _pictures_of(channels))[0]
    if numbers is None or not numbers.is_floating_point():
        raise DataError(f"a sample is {type_of(item)}: expected a picture, uint8 pixels, or floats")
    return numbers.to("cpu", torch.float32)


def _pictures_of(channels: int) -> tuple[int, int, int]:
    """Whole pictures, whose size does not matter here; gray and RGB ones are told apart for any network."""
    return 3 if channels == 1 else channels, 0, 0
