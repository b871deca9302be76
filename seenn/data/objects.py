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
from seenn.data.inputs import as_tensor
from seenn.data.labels import Task, as_labels, numbered, task_of, told_task
from seenn.data.parts import choose_parts, has_parts
from seenn.data.picture import read_picture
from seenn.data.preprocessing import Preprocessing
from seenn.data.source import FileImages, Images, ItemImages, Labelled, Source, labelled_arrays
from seenn.errors import DataError, DataTypeError

_RGB = (3, 0, 0)  # channels of whole pictures; their size does not matter here
_WHERE = "the data"


def source_of(data: Any) -> Source:
    """One part of what a program holds; or two, of a mapping from names as of ``seenn.data.parts``.

    Raises:
        DataTypeError: it is no data, or has no labels.
        DataError: samples that are others each time; labels that are none.
    """
    if has_parts(data):
        train, test = choose_parts(_WHERE, data)
        return source_of_parts(data[train], None if test is None else data[test])
    return source_of_parts(data, None)


def source_of_parts(train: Any, test: Any) -> Source:
    """A training part, and a test part unless it is None; raises as :func:`source_of`."""
    given = [told(train)] if test is None else [told(train), told(test)]
    names, labels = numbered(_WHERE, [labels_of(part) for part in given])
    task = told_task(labels)
    parts = [labelled(part, found, task=task) for part, found in zip(given, labels, strict=True)]
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


def labelled(given: Given, labels: NDArray[Any], *, task: Task | None = None) -> Labelled:
    """The samples with these labels, see ``seenn.data.labels.as_labels``.

    Raises:
        DataError: samples of several types, or that are others each time; labels that are none, or not one a sample.
    """
    if given.is_stack:
        samples = _stack(given.samples)
        return labelled_arrays(_WHERE, samples, labels, task=task)
    items = given.samples
    if len(items) != len(labels):
        raise DataError(f"{_WHERE}: {len(items)} images but {len(labels)} labels; expected one label each")
    if isinstance(items[0], str | Path):
        files = FileImages([Path(file) for file in items], read_picture)
        return Labelled(files, as_labels(_WHERE, labels, task=task))
    first, again = _sample(items[0]), _sample(items[0])
    if not torch.equal(first, again):
        raise DataError("the data set gives another sample each time: take random changes out of its transform")
    images = ItemImages(lambda index: _sample(items[index]), len(items), pictures=first.dtype == torch.uint8)
    return Labelled(images, as_labels("the data set", labels, task=task))


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


def _stack(samples: Any) -> NDArray[Any]:
    """An array of samples; pictures with their channels first, gray ones with an axis for them."""
    numbers = as_numbers(samples)
    if numbers is None:
        raise DataTypeError(f"samples are {type_of(samples)}: expected numbers")
    if numbers.dtype == torch.uint8 and numbers.dim() in (3, 4):
        numbers = numbers[:, None] if numbers.dim() == 3 else as_tensor(numbers, _RGB)
    array: NDArray[Any] = (numbers.float() if numbers.is_floating_point() else numbers).cpu().numpy()
    return array


def _sample(item: Any) -> Tensor:
    """Pixels uint8 ``[C, H, W]`` or numbers."""
    if isinstance(item, list | tuple):
        item = np.asarray(item)
    if not is_array(item):
        return as_tensor(item, _RGB)[0]
    numbers = as_numbers(item)
    if numbers is not None and numbers.dtype == torch.uint8:
        return as_tensor(numbers, _RGB)[0]
    if numbers is None or not numbers.is_floating_point():
        raise DataError(f"a sample is {type_of(item)}: expected a picture, uint8 pixels, or floats")
    return numbers.to("cpu", torch.float32)
