"""One split, and the four of a data set."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.batch import Batch
from seenn.data.encoding import PoissonEncoding
from seenn.data.labels import Task, label_column, task_of
from seenn.data.picture import for_channels
from seenn.data.preprocessing import Preparation, suited
from seenn.data.reading import file_digest, naming, to_int64
from seenn.data.rule import SPLITS
from seenn.data.source import Labelled
from seenn.errors import DataError, listed

_LOOKED_AT = 1000  # files, for others that are damaged like one


class Split:
    """Some of a data set's samples, in a fixed order; decoded and preprocessed when they are asked for.

    Attributes:
        data: the data set that it is a split of; None where it was made alone.
        names: of the classes, where it was made alone from labels that are names.
    """

    def __init__(
        self,
        name: str,
        source: Labelled,
        indices: Tensor,
        preprocessing: Preparation,
        names: tuple[str, ...] = (),
    ) -> None:
        """``indices`` (int64) choose and order the images of ``source``, whose classes have these ``names``."""
        self.name = name
        self.names = names
        self.labels = source.labels[indices]  # int64 [N]; of other tasks see Labelled
        self.preprocessing = preprocessing
        self.encoding: PoissonEncoding | None = None
        self.data: DataSplits | None = None
        self._images = source.images
        self._groups = source.groups
        self._indices = indices
        self._digests: dict[bool, Tensor] = {}  # by whether files are decoded

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self)} images)"

    @property
    def spec(self) -> str:
        """The data set's name, as given to ``load_data``; empty for a split alone."""
        return "" if self.data is None else self.data.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the data set; of a split alone, its own, or the numbers of its classes."""
        if self.data is not None or self.names:
            return self.names if self.data is None else self.data.class_names
        if self.task != "classes":
            return tuple(map(str, range(self.labels[0].numel())))
        return tuple(map(str, range(int(self.labels.max()) + 1)))

    @property
    def task(self) -> Task:
        """What the labels say: ``classes``, or else ``multi-label`` or ``regression``."""
        return task_of(self.labels)

    @property
    def has_pictures(self) -> bool:
        """Whether samples are pixels; else they are numbers."""
        return self._images.pictures

    @property
    def picture(self) -> Callable[[int], Tensor] | None:
        """:meth:`raw`, where there is something to look at."""
        return self.raw if self.has_pictures else None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def files(self) -> list[Path] | None:
        """The file of each image, which is decoded whenever the image is asked for; None where all are in memory."""
        files = self._images.files
        return None if files is None else [files[index] for index in self._indices.tolist()]

    @property
    def groups(self) -> list[str] | None:
        """What each sample shows, a patient or a film: samples of a group are alike. None where nothing was said."""
        return None if self._groups is None else [self._groups[index] for index in self._indices.tolist()]

    @property
    def in_memory(self) -> bool:
        """Whether reading an image costs no decoding."""
        return self._images.files is None

    @property
    def timesteps(self) -> int | None:
        """T of the sequences that batches are; None for images, which stay the same for as many steps as are run."""
        return self._images.frames if self.encoding is None else self.encoding.timesteps

    @property
    def is_sequence(self) -> bool:
        """Whether batches are sequences ``[T, B, C, H, W]``."""
        return self.timesteps is not None

    def with_preprocessing(self, preprocessing: Preparation) -> Split:
        """The same images, prepared in another way.

        Raises:
            DataError: they are pictures, and the network takes numbers.
        """
        where = self.spec or f"the {self.name} split"
        return self._with(preprocessing=suited(where, preprocessing, pictures=self.has_pictures))

    def numbered(self, limit: int | None = None) -> Split:
        """The first ``limit`` images (or all), each labelled with its number: to train on what else is known of it."""
        indices = self._indices[:limit]
        return self._with(_indices=indices, labels=torch.arange(len(indices)), _digests={})

    def _with(self, **fields: Any) -> Split:
        other = copy.copy(self)
        vars(other).update(fields)
        return other

    def check_classes(self, known: int, whose: str = "the network") -> None:
        """Raises DataError where the labels are no classes, or of more than are ``known``: they would mean nothing."""
        where = self.spec or f"the {self.name} split"
        if self.task != "classes":
            raise DataError(f"{where} has {self.task} labels, and this needs classes: convert and predict take others")
        found = max(self.num_classes, int(self.labels.max()) + 1) if len(self) else 0
        refuse_more_classes(where, found, known, whose)

    def batches(self, batch_size: int, *, order: Tensor | None = None, limit: int | None = None) -> Iterator[Batch]:
        """Preprocessed images, float32 ``[B, C, H, W]``, with their labels, int64 ``[B]``; the last may be smaller.

        Recordings of events, and images with an encoding, come as sequences ``[T, B, C, H, W]``, time first.

        Args:
            batch_size: images in a batch, at least 1.
            order: indices into this split, for example a shuffled epoch; by default all, in order.
            limit: at most this many images, the first ones.

        Raises:
            ValueError: an argument is out of range.
            DataError: an image cannot be decoded.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1")
        chosen = self._chosen(order, limit)
        return (self._prepared(chosen[start : start + batch_size]) for start in range(0, len(chosen), batch_size))

    def batch(self, limit: int | None = None) -> Batch:
        """The first ``limit`` samples (or all) at once, as :meth:`batches` gives them; raises likewise."""
        return self._prepared(self._chosen(None, limit))

    def images(self, limit: int | None = None) -> Tensor:
        """The inputs of :meth:`batch`."""
        return self.batch(limit).inputs

    def raw(self, index: int) -> Tensor:
        """One sample as it is stored: uint8 ``[C, H, W]``, or numbers; of a recording, one gray picture of all events.

        Raises:
            IndexError: ``index`` is outside the split.
            DataError: the image cannot be decoded.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside the {self.name} split of {len(self)} images")
        stored = next(self._images.blocks(self._indices[index : index + 1]))[0]
        if self._images.frames is None:
            return stored
        total = stored.sum((0, 1), dtype=torch.float32)[None]  # [T, C, H, W] to [1, H, W]
        return (255 * total / total.max().clamp_min(1)).to(torch.uint8)

    def digests(self, *, decoded: bool = False) -> Tensor:
        """A 64-bit hash (BLAKE2b) of each image, int64 ``[N]``: of its shape and pixels, or of its file's bytes.

        The bytes are hashed of images in files, unless ``decoded``.

        Raises:
            DataError: a file cannot be read.
        """
        by_pixels = decoded or self.in_memory
        if by_pixels not in self._digests:
            if by_pixels:
                self._digests[by_pixels] = self.pixel_digests(torch.arange(len(self)))
            else:
                found = [file_digest(path) for path in self.files or ()]
                self._digests[by_pixels] = torch.tensor(found, dtype=torch.int64)
        return self._digests[by_pixels]

    def pixel_digests(self, order: Tensor) -> Tensor:
        """``digests`` of the images at these indices, by their pixels."""
        found = [pixel_digests(block) for block in self._images.blocks(self._indices[order])]
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the sorted pairs of digest and label: what the split holds, in any order."""
        return self.content_hash()

    def content_hash(self, *, labels: bool = True, decoded: bool = False) -> str:
        """As ``fingerprint``; without ``labels`` of the sorted digests alone. ``decoded`` is as for ``digests``."""
        columns = [self.digests(decoded=decoded).numpy(), *([label_column(self.labels)] if labels else [])]
        pairs = np.stack(columns, axis=1)[np.lexsort(columns[::-1])]
        return hashlib.sha256(pairs.astype("<i8").tobytes()).hexdigest()

    def _chosen(self, order: Tensor | None, limit: int | None) -> Tensor:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}, expected at least 1")
        if order is None:
            order = torch.arange(len(self))
        if order.dtype != torch.int64 or order.dim() != 1:
            raise ValueError(f"order is {order.dtype} {list(order.shape)}, expected int64 indices [N]")
        if ((order < 0) | (order >= len(self))).any():
            raise ValueError(f"order holds indices outside the {self.name} split of {len(self)} images: leave them out")
        return order[:limit]

    def _prepared(self, chosen: Tensor) -> Batch:
        files, blocks = self._images.files, self._images.blocks(self._indices[chosen])
        with for_channels(self.preprocessing.shape[0]):
            if files is None:
                parts = [self._prepared_block(block) for block in blocks]
            else:
                parts = []
                try:
                    for index, block in zip(self._indices[chosen].tolist(), blocks, strict=True):
                        with naming(files[index]):
                            parts.append(self._prepared_block(block))
                except DataError as error:
                    raise type(error)(f"{error}{self._alike(str(error))}") from error
        return Batch(torch.cat(parts, dim=int(self.is_sequence)), self.labels[chosen], self.is_sequence)

    def _alike(self, said: str) -> str:
        """Which other files, of the first, cannot be read or prepared, as the end of what is ``said`` of one."""
        files, looked_at = self._images.files or (), self._indices[:_LOOKED_AT]
        found = []
        for index in looked_at.tolist():
            try:
                self._prepared_block(next(self._images.blocks(torch.tensor([index]))))
            except DataError:
                found.append(str(files[index]))
        others = [file for file in found if file not in said]
        if not others:
            return ""
        return (
            f"; likewise {len(others)} others of {len(looked_at)} files of the {self.name} split: "
            f"{listed(others, most=4)}"
        )

    def _prepared_block(self, block: Tensor) -> Tensor:
        """``[b, ...]`` to samples or, with an encoding, sequences; recordings ``[b, T, C, H, W]`` to sequences."""
        if self._images.frames is not None:
            frames = self.preprocessing(block.transpose(0, 1).flatten(0, 1))
            return frames.view(block.shape[1], block.shape[0], *frames.shape[1:])
        images = self.preprocessing(block)
        return images if self.encoding is None else self.encoding(images)


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """A data set in four disjoint splits; see ``seenn.data`` for the rule. Each of them knows the other three."""

    spec: str  # as given to load_data
    split_seed: int
    data_dir: str | None
    class_names: tuple[str, ...]
    preprocessing: Preparation
    guess: str = ""  # where the preprocessing is from, if nobody stated it and networks may want another
    group_by: str | None = None  # what keeps samples together
    frames: int | None = None  # T of recordings of events; None for images
    chiral: bool = False  # whether a mirror image is of another class, or of none
    train: Split
    calibration: Split  # for the thresholds of neurons
    exit: Split  # for the exit policy
    test: Split  # for the figures that are reported

    def __post_init__(self) -> None:
        for name in SPLITS:
            object.__setattr__(self, name, getattr(self, name)._with(data=self))

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def with_preprocessing(self, preprocessing: Preparation, *, guess: str = "") -> DataSplits:
        """The same splits, prepared in another way, for example as a pretrained network wants them.

        Raises:
            DataError: the data are pictures, and the network takes numbers.
        """
        preprocessing = suited(self.spec, preprocessing, pictures=self.train.has_pictures)
        splits = {name: getattr(self, name)._with(preprocessing=preprocessing) for name in SPLITS}
        return replace(self, preprocessing=preprocessing, guess=guess, **splits)

    def with_encoding(self, encoding: PoissonEncoding | None) -> DataSplits:
        """The same splits, as sequences of spikes; None gives the images again.

        Raises:
            DataError: the data are recordings of events, which are spikes already.
        """
        if encoding is not None and self.frames is not None:
            raise DataError(f"{self.spec} are events: they come as frames: leave the encoding out")
        return replace(self, **{name: getattr(self, name)._with(encoding=encoding) for name in SPLITS})

    def manifest(self) -> dict[str, Any]:
        """Which data these are, as JSON: enough to load them again and to tell whether they are the same.

        ``content`` says what is hashed, pixels or whole files. A train split of files has no fingerprint here: there
        may be millions.
        """
        splits: dict[str, Split] = {name: getattr(self, name) for name in SPLITS}
        hashed = {name: split for name, split in splits.items() if split.in_memory or name != "train"}
        return {
            "spec": self.spec,
            "data_dir": self.data_dir,
            "split_seed": self.split_seed,
            **({} if self.frames is None else {"frames": self.frames}),
            **({} if self.group_by is None else {"group_by": self.group_by}),
            "sizes": {name: len(split) for name, split in splits.items()},
            "content": "pixels" if self.train.in_memory else "files",
            "fingerprints": {name: split.fingerprint for name, split in hashed.items()},
            "image_fingerprints": {name: split.content_hash(labels=False) for name, split in hashed.items()},
        }


def refuse_more_classes(where: str, found: int, known: int, whose: str) -> None:
    """Raises DataError where there are more classes than are ``known``."""
    if found > known:
        raise DataError(
            f"{where} has {found} classes, and {whose} knows {known}: name data of its own classes with --data, "
            "number labels from 0, or train it on these"
        )


def pixel_digests(samples: Tensor) -> Tensor:
    """See ``Split.digests``; int64 ``[N]``, wherever the samples are and whatever they are made of."""
    values = samples.detach().cpu()
    values = values.float() if values.dtype == torch.bfloat16 else values  # which numpy has not
    return torch.tensor([_pixel_digest(sample) for sample in values.numpy()], dtype=torch.int64)


def _pixel_digest(sample: NDArray[Any]) -> int:
    shape = np.array(sample.shape, dtype="<i8").tobytes()
    kind = b"" if sample.dtype == np.uint8 else sample.dtype.str.encode()
    return to_int64(hashlib.blake2b(shape + kind + sample.tobytes(), digest_size=8).digest())
