"""Data that a program holds: data sets and loaders of torch, data sets of Hugging Face, pairs of arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset, SubsetRandomSampler, default_collate

from seenn.data.imagenet import IMAGENET, LARGEST_INPUT, LOOKED_AT
from seenn.data.inputs import as_tensor
from seenn.data.labels import as_labels, task_of
from seenn.data.preprocessing import Preparation, Preprocessing, suited
from seenn.data.rule import SPLITS
from seenn.data.source import Images, ItemImages, Labelled, Source, labelled_arrays, measure
from seenn.data.split import DataSplits, Split
from seenn.errors import DataError

IMAGES, LABELS = ("image", "img", "pixel_values", "x", "input"), ("label", "labels", "fine_label", "target", "y")
_RGB = (3, 0, 0)  # channels of whole pictures; their size does not matter here


def source_of(data: Any) -> Source:
    """One part, of what a program holds.

    Raises:
        TypeError: it is no data.
        DataError: samples without labels, or that are others each time; labels that are none.
    """
    return source_of_parts(data, None)


def source_of_parts(train: Any, test: Any) -> Source:
    """A training part, and a test part unless it is None; raises as :func:`source_of`."""
    part = labelled(train)
    return Source(
        train=part,
        test=None if test is None else labelled(test),
        class_names=class_names(train, part.labels),
        preprocessing=_photographs(part.images),
    )


def as_split(data: Any, name: str, preprocessing: Preparation | None = None) -> Split:
    """All of ``data`` in its order as one split; a split as it is, of ``DataSplits`` the one of that name.

    Pictures need the ``preprocessing``.

    Raises:
        TypeError, DataError: as of :func:`source_of`; or pictures, and nothing says how to prepare them.
    """
    if isinstance(data, Split):
        return data
    if isinstance(data, DataSplits) and name in SPLITS:
        chosen: Split = getattr(data, name)
        return chosen
    part = labelled(data)
    everything = torch.arange(len(part.labels))
    if preprocessing is None and part.images.pictures:
        raise DataError(f"the {name} data are pictures, and nothing says how to prepare them: give preprocessing=")
    known = preprocessing or measure(name, part.images, everything)
    return Split(name, part, everything, suited(f"the {name} data", known, pictures=part.images.pictures))


def is_data_set(data: Any) -> bool:
    """Whether it is samples with labels, by number or in batches."""
    if isinstance(data, str | bytes | np.ndarray | Tensor | Mapping):
        return False
    return isinstance(data, DataLoader) or _is_pair(data) or (not isinstance(data, list | tuple) and _is_indexed(data))


def labelled(data: Any) -> Labelled:
    """Samples and labels of what a program holds; see :func:`source_of`."""
    if isinstance(data, DataLoader):
        data = _loaded(data)
    if _is_pair(data):
        samples, labels = (np.asarray(part.cpu() if isinstance(part, Tensor) else part) for part in data)
        if samples.dtype == np.uint8:
            samples = as_tensor(samples, _RGB).numpy()
        return labelled_arrays("the data", samples, labels)
    if not is_data_set(data):
        raise TypeError(
            f"data is a {type(data).__name__}: expected the name of a data set, a Dataset or DataLoader of torch, or a "
            "pair of samples and labels"
        )
    if not len(data):
        raise DataError("the data set is empty: add samples")
    first, again = _sample(data[0])[0], _sample(data[0])[0]
    if not torch.equal(first, again):
        raise DataError("the data set gives another sample each time: take random changes out of its transform")
    images = ItemImages(lambda index: _sample(data[index])[0], len(data), pictures=first.dtype == torch.uint8)
    return Labelled(images, as_labels("the data set", _labels(data)))


def class_names(data: Any, labels: Tensor) -> tuple[str, ...]:
    """As the data set says them; else numbers."""
    if isinstance(data, DataLoader):
        return class_names(data.dataset, labels)
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
    if not isinstance(images, ItemImages) or not images.pictures:
        return None
    some = torch.arange(0, images.count, math.ceil(images.count / LOOKED_AT))
    shapes = {tuple(block.shape[1:]) for block in images.blocks(some)}
    return None if len(shapes) == 1 and max(max(shapes)) <= LARGEST_INPUT else IMAGENET


def _is_pair(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(p, np.ndarray | Tensor) for p in data)


def _is_indexed(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _loaded(loader: DataLoader[Any]) -> Any:
    """What a loader loads; its shuffling does not matter, since splits shuffle themselves."""
    data, sampler = loader.dataset, loader.sampler
    plain = loader.collate_fn is default_collate and _is_indexed(data)
    if plain and isinstance(sampler, SubsetRandomSampler):
        return Subset(data, sorted(sampler.indices))
    whole = isinstance(sampler, SequentialSampler) or (isinstance(sampler, RandomSampler) and not sampler.replacement)
    if not plain or not whole:
        raise DataError(
            f"the DataLoader has a {type(sampler).__name__}, a stream or a collate_fn of its own, so that its samples "
            "cannot be told apart: give its data set, with samples as the network takes them"
        )
    return data


def _labels(data: Any) -> np.ndarray[Any, Any]:
    """Of all samples: as the data set lists them, where that is what its samples say; else from the samples."""
    if isinstance(data, Subset):
        chosen: np.ndarray[Any, Any] = _labels(data.dataset)[np.asarray(data.indices)]
        return chosen
    listed = _listed(data)
    probes = {0, len(data) // 2, len(data) - 1}
    if listed is not None and all(np.array_equal(listed[i], _sample(data[i])[1]) for i in probes):
        return listed
    return np.stack([_sample(data[index])[1] for index in range(len(data))])


def _listed(data: Any) -> np.ndarray[Any, Any] | None:
    columns = getattr(data, "column_names", ())
    found = next((data[key] for key in LABELS if key in columns), None) if isinstance(columns, list) else None
    for name in ("targets", "labels"):
        found = getattr(data, name, None) if found is None else found
    try:
        array = np.asarray(found)
    except ValueError:  # ragged
        return None
    return array if array.ndim in (1, 2) and len(array) == len(data) and array.dtype.kind in "buif" else None


def _sample(item: Any) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """Pixels uint8 ``[C, H, W]`` or numbers, and the label."""
    if isinstance(item, Mapping):
        item = [next((item[key] for key in keys if key in item), None) for keys in (IMAGES, LABELS)]
    if not isinstance(item, list | tuple) or len(item) < 2 or item[0] is None or item[1] is None:
        raise DataError(
            f"a sample of the data set is a {type(item).__name__}: expected (sample, label), or a dict with "
            f"{IMAGES[0]} and {LABELS[0]}"
        )
    sample, label = item[0], np.asarray(item[1])
    if isinstance(sample, Image.Image) or getattr(sample, "dtype", None) in (np.uint8, torch.uint8):
        return as_tensor(sample, _RGB)[0], label
    numbers = torch.as_tensor(sample)
    if not numbers.is_floating_point():
        raise DataError(f"a sample is {numbers.dtype}: expected a picture, uint8 pixels, or floats")
    return numbers.to(torch.float32), label
