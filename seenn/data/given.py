"""What a program gives as data, told apart in one place: samples, and their labels where it has them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from seenn.batch import Batch
from seenn.data.arrays import as_array, as_numbers, is_array, is_number, plain, stacked
from seenn.data.parts import has_parts
from seenn.data.picture import SUFFIXES, say_left_out
from seenn.data.reading import list_files, reading
from seenn.data.split import DataSplits, Split
from seenn.errors import DataArgumentError, DataError, DataTypeError, kind_of

_MOST_SAMPLES = 1 << 40  # of a data set that is asked where it ends
IMAGES = ("image", "img", "pixel_values", "x", "input", "images", "inputs")
LABELS = ("label", "labels", "fine_label", "target", "y", "targets")


@dataclass(frozen=True)
class Given:
    """Samples of a program, with their labels or without.

    Attributes:
        samples: an array ``[N, ...]``; or one by one arrays, pictures and paths, each read when it is asked for.
        labels: gives one for each sample, as an array; None where there are none.
        source: what may know the names of the classes.
    """

    samples: Any
    labels: Callable[[], NDArray[Any]] | None = None
    source: Any = None

    @property
    def is_stack(self) -> bool:
        """Whether the samples are one array."""
        return is_array(self.samples)


def told(data: Any) -> Given:
    """What ``data`` is.

    - an array ``[N, ...]``, of whatever library numpy reads; a ``Batch``; a ``Split``, which is read at once
    - a picture, the path of one, or of a folder that is searched for them
    - a pair of samples and labels: arrays, lists, or one of each; a mapping that calls them image and label
    - a data set or loader of torch, or of Hugging Face; a list or an iterator or ``IterableDataset``, which is read to
      its end, of samples, of pairs of sample and label, of mappings, or of such in batches

    Raises:
        DataTypeError: it is no data.
        DataError: it is empty, or a loader whose samples cannot be told apart.
    """
    if isinstance(data, Given):
        return data
    if isinstance(data, DataLoader):
        return told(_loaded(data))
    if isinstance(data, DataSplits):
        raise DataArgumentError(f"{data.spec} is in four splits, and one is needed: give data.test, or another of them")
    if isinstance(data, Split):
        data = data.batch()
    if isinstance(data, Batch):
        if data.is_sequence and data.labels is not None:
            raise DataArgumentError("a batch of frames over time is no data set: give the split that it is from")
        return _columns(data.inputs, data.labels)
    if isinstance(data, str | Path):
        return Given(_pictures(Path(data)))
    if isinstance(data, Image.Image):
        return Given([data])
    if has_parts(data):
        raise DataArgumentError(
            f"the data have the parts {' and '.join(data)}, and one is needed: give data[{[*data][-1]!r}]"
        )
    if isinstance(data, Mapping):
        return _columns(*_parts(data))
    if is_array(data):
        found = _opened(plain(data))
        return Given(found) if is_array(found) else told(found)
    if isinstance(data, Iterator | IterableDataset):
        data = list(data)
    if isinstance(data, list | tuple):
        return _of_list(data)
    data = _with_length(data)
    if not _is_indexed(data):
        raise DataTypeError(
            f"data is {kind_of(data)}: expected the name of a data set, a Dataset or DataLoader of torch, "
            "samples, or a pair of samples and labels"
        )
    if not len(data):
        raise DataError("the data set is empty: add samples")
    return _of_items(data)


class _Counted(Sequence[Any]):
    """A data set that says where it ends by IndexError alone, as Python's sequences may."""

    def __init__(self, data: Any) -> None:
        self._data = data
        last = 1
        while self._has(last - 1):
            if last > _MOST_SAMPLES:
                raise DataError(
                    f"the data set, {kind_of(data)}, does not say how long it is, and has a sample "
                    f"{last - 1:,}: give it __len__, or raise IndexError behind its last sample"
                )
            last *= 2
        self._len = bisect_left(range(last), True, lo=last // 2, key=lambda index: not self._has(index))

    def _has(self, index: int) -> bool:
        try:
            self._data[index]
        except IndexError:
            return False
        return True

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, index: Any) -> Any:
        return self._data[index]


class _Samples(Sequence[Any]):
    """The samples of a data set, each read when it is asked for."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return _parts(self._data[index])[0]


def _of_list(data: Sequence[Any]) -> Given:
    if not data:
        raise DataError("there are no samples: the list is empty; add some")
    if len(data) == 2 and data[1] is None:
        return _columns(*data)
    if len(data) == 2:
        pair = map(_opened, data)
        data = tuple(pair) if isinstance(data, tuple) else list(pair)
    if _is_pair(data):
        return _columns(*data)
    if len(data) == 2 and _is_sample(data[0]) and _is_scalar(data[1]) and not isinstance(data[0], str | Path):
        data = [data]  # as a data set gives one
    if all(isinstance(part, Batch) for part in data):
        return told(Batch.concatenate(data))
    if (numbers := _nested_numbers(data)) is not None:
        return Given(numbers)
    if all(isinstance(part, Mapping) or _is_item(part) for part in data):
        parts = [_parts(part) for part in data]
        if all(_is_batch(*part) for part in parts):
            return _columns(_joined([part[0] for part in parts]), np.concatenate([as_array(part[1]) for part in parts]))
        return _of_items(data)
    if all(is_number(part) or isinstance(part, list | tuple) for part in data):
        return Given(stacked(data, "samples"))  # says why they are none
    return Given(data)


def _of_items(data: Any) -> Given:
    """A data set, whose labels are those that it lists, where that is what its samples say; else they are read."""
    labelled = _parts(data[0])[1] is not None
    return Given(_Samples(data), (lambda: _labels_of(data)) if labelled else None, data)


def _columns(samples: Any, labels: Any) -> Given:
    if samples is None:
        raise DataError(f"the data have no samples: expected them by the name {IMAGES[0]}, and labels by {LABELS[0]}")
    if not is_array(samples):
        inner = told(samples)
        if inner.labels is not None:
            raise DataError("the samples of a pair have labels themselves: give a list of pairs, or two lists")
        samples = inner.samples
    if labels is None:
        return Given(samples)
    array = as_array(labels)
    if not array.ndim:  # of one sample
        return Given([samples], lambda: array[None])
    return Given(plain(samples) if is_array(samples) else samples, lambda: array)


def _pictures(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    others: Counter[str] = Counter()
    with reading(path):
        found = list_files(path, SUFFIXES, others)
    say_left_out(path, others)
    if not found:
        raise DataError(f"{path}: holds no picture; expected files that end in {' '.join(sorted(SUFFIXES))}")
    return found


def _opened(value: Any) -> Any:
    """An array of samples that are objects as a list of them."""
    boxes = isinstance(value, np.ndarray) and value.dtype == object and value.size and _is_sample(value.flat[0])
    return value.tolist() if boxes else value


def _is_pair(data: Sequence[Any]) -> bool:
    """Whether it is samples and labels, and not two samples."""
    if len(data) != 2:
        return False
    samples, labels = data
    rows = labels.ndim == 2 if is_array(labels) else _are_rows(labels)
    if not rows and not (labels.ndim == 1 if is_array(labels) else _is_row(labels)):
        return False
    if not is_array(samples):
        listed = isinstance(samples, list | tuple) and len(samples) > 0 and all(map(_is_sample, samples))
        alike = isinstance(data, list) and _are_rows(samples)
        return listed and (not rows or (len(samples) == len(labels) and not alike))
    if samples.ndim < 2 or not rows:
        return bool(samples.ndim > 1)
    alike = is_array(labels) and isinstance(data, list) and tuple(samples.shape) == tuple(labels.shape)
    return len(samples) == len(labels) and not alike


def _nested_numbers(data: Sequence[Any]) -> NDArray[Any] | None:
    """Lists of lists of numbers as an array; None where they are something else."""
    leaf: Any = data
    while isinstance(leaf, list | tuple) and leaf:
        leaf = leaf[0]
    try:
        return np.asarray(data) if isinstance(leaf, int | float | np.number) else None
    except (ValueError, TypeError):  # of several lengths, as samples with labels are
        return None


def _is_item(part: Any) -> bool:
    """Whether it is what a data set gives: a sample, alone in a tuple or with its label behind it."""
    if not isinstance(part, list | tuple) or not part or not _is_sample(part[0]):
        return False
    if len(part) == 1 or _is_scalar(part[1]):
        return True
    return not _is_row(part[0]) and (_is_row(part[1]) or (is_array(part[1]) and part[1].ndim < 3))


def _is_batch(samples: Any, labels: Any) -> bool:
    """Whether a sample and its label are several of each."""
    if not (labels.ndim if is_array(labels) else isinstance(labels, list | tuple)):
        return False
    many = samples.ndim > 1 if is_array(samples) else isinstance(samples, list | tuple) and not _is_row(samples)
    return bool(many) and len(samples) == len(labels)


def _is_sample(value: Any) -> bool:
    if is_array(value):
        return bool(value.ndim)
    return isinstance(value, str | Path | Image.Image) or (isinstance(value, list | tuple) and len(value) > 0)


def _is_scalar(value: Any) -> bool:
    """Whether it is a number or a name, as a label is."""
    return is_number(value) or isinstance(value, str | bytes)


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_scalar, value))


def _are_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_row, value))


def _with_length(data: Any) -> Any:
    """A data set with samples by number and no length as one that has it; anything else as it is."""
    kind = type(data)
    if hasattr(kind, "__getitem__") and not hasattr(kind, "__len__") and not hasattr(kind, "__iter__"):
        return _Counted(data)
    return data


def _is_indexed(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, bytes | bytearray)


def _parts(item: Any) -> tuple[Any, Any]:
    """A sample and its label, of what a data set gives; None stands for what there is not."""
    if isinstance(item, Mapping):
        samples, labels = (next((item[key] for key in keys if key in item), None) for keys in (IMAGES, LABELS))
        return samples, labels
    if isinstance(item, list | tuple) and item and (_is_sample(item[0]) or is_array(item[0])):
        return item[0], (item[1] if len(item) > 1 else None)
    return item, None


def _joined(batches: Sequence[Any]) -> Any:
    """Batches of samples as one."""
    if not all(map(is_array, batches)):
        return [sample for batch in batches for sample in batch]
    found = [numbers for batch in batches if (numbers := as_numbers(batch)) is not None]
    if len(found) < len(batches) or len({(part.shape[1:], part.dtype) for part in found}) > 1:
        raise DataError("batches of samples differ in shape or type: give them alike, or one by one")
    return torch.cat(found)


def _loaded(loader: DataLoader[Any]) -> Any:
    """What a loader loads; its shuffling does not matter, since splits shuffle themselves."""
    data, sampler = _with_length(loader.dataset), loader.sampler
    if isinstance(data, IterableDataset) and loader.collate_fn is default_collate:
        return data
    plain_items = loader.collate_fn is default_collate and _is_indexed(data)
    if plain_items and isinstance(sampler, SubsetRandomSampler):
        return Subset(data, sorted(sampler.indices))
    whole = isinstance(sampler, SequentialSampler) or (isinstance(sampler, RandomSampler) and not sampler.replacement)
    if not plain_items or not whole:
        raise DataError(
            f"the DataLoader has {kind_of(sampler)}, a stream or a collate_fn of its own, so that its samples "
            "cannot be told apart: give its data set, with samples as the network takes them"
        )
    return data


def _labels_of(data: Any) -> NDArray[Any]:
    if isinstance(data, Subset):
        chosen: NDArray[Any] = _labels_of(data.dataset)[np.asarray(data.indices)]
        return chosen
    listed = _listed(data)
    probes = {0, len(data) // 2, len(data) - 1}
    if listed is not None and all(np.array_equal(listed[i], as_array(_parts(data[i])[1])) for i in probes):
        return listed
    return as_array([_label(data[index], index) for index in range(len(data))])


def _label(item: Any, index: int) -> Any:
    label = _parts(item)[1]
    if label is None:
        raise DataError(f"sample {index} of the data set has no label, and the first has one: give each one, or none")
    return label


def _listed(data: Any) -> NDArray[Any] | None:
    columns = getattr(data, "column_names", ())
    found = next((data[key] for key in LABELS if key in columns), None) if isinstance(columns, list) else None
    for name in ("targets", "labels"):
        found = getattr(data, name, None) if found is None else found
    try:
        array = np.asarray(found)
    except ValueError:  # ragged
        return None
    return array if array.ndim in (1, 2) and len(array) == len(data) and array.dtype.kind in "buif" else None
