"""One split, and the four of a data set."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.data.encoding import PoissonEncoding
from seenn.data.preprocessing import Preprocessing
from seenn.data.rule import SPLITS
from seenn.data.source import Labelled


class Split:
    """Some of a data set's images, in a fixed order; decoded and preprocessed when they are asked for."""

    def __init__(self, name: str, source: Labelled, indices: Tensor, preprocessing: Preprocessing) -> None:
        """``indices`` (int64) choose and order the images of ``source``."""
        self.name = name
        self.labels = source.labels[indices]  # int64 [N]
        self.preprocessing = preprocessing
        self.encoding: PoissonEncoding | None = None
        self.spec = ""
        self.class_names: tuple[str, ...] = ()
        self.data: DataSplits | None = None
        self._images = source.images
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self)} images)"

    @property
    def in_memory(self) -> bool:
        """Whether reading an image costs no decoding."""
        return self._images.in_memory

    def with_preprocessing(self, preprocessing: Preprocessing) -> Split:
        """The same images, prepared in another way."""
        other = copy.copy(self)
        other.preprocessing = preprocessing
        return other

    @property
    def is_sequence(self) -> bool:
        """Whether batches are sequences ``[T, B, C, H, W]``."""
        return self.encoding is not None or self._images.frames is not None

    def with_encoding(self, encoding: PoissonEncoding | None) -> Split:
        """The same images, as sequences of spikes; None gives the images again."""
        other = copy.copy(self)
        other.encoding = encoding
        return other

    def numbered(self, limit: int | None = None) -> Split:
        """The first ``limit`` images (or all), each labelled with its number: to train on what else is known of it."""
        other = copy.copy(self)
        other._indices = self._indices[:limit]
        other.labels = torch.arange(len(other._indices))
        return other

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
        batches = (chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size))
        return (Batch(self._prepared(rows), self.labels[rows], self.is_sequence) for rows in batches)

    def batch(self, limit: int | None = None) -> Batch:
        """The first ``limit`` samples (or all) at once; raises as :meth:`images`."""
        chosen = self._chosen(None, limit)
        return Batch(self._prepared(chosen), self.labels[chosen], self.is_sequence)

    def images(self, limit: int | None = None) -> Tensor:
        """The first ``limit`` images (or all), preprocessed: float32 ``[N, C, H, W]``; sequences ``[T, N, C, H, W]``.

        Raises:
            ValueError: ``limit`` is below 1.
            DataError: an image cannot be decoded.
        """
        return self._prepared(self._chosen(None, limit))

    def raw(self, index: int) -> Tensor:
        """One image as it is stored: uint8 ``[C, H, W]``; of a recording, one gray picture of all its events.

        Raises:
            IndexError: ``index`` is outside the split.
            DataError: the image cannot be decoded.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside the {self.name} split of {len(self)} images")
        stored = next(self._images.blocks(self._indices[index : index + 1]))[0]
        if stored.dim() == 3:
            return stored
        total = stored.sum((0, 1), dtype=torch.float32)[None]  # [T, C, H, W] to [1, H, W]
        return (255 * total / total.max().clamp_min(1)).to(torch.uint8)

    def digests(self) -> Tensor:
        """A 64-bit hash (BLAKE2b) of each raw image's shape and pixels: int64 ``[N]``; decodes every image.

        Two splits share a picture where they share a digest.
        """
        return self._digests

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the sorted pairs of digest and label: what the split holds, in any order."""
        digests, labels = self._digests.numpy(), self.labels.numpy()
        order = np.lexsort((labels, digests))
        pairs = np.stack([digests[order], labels[order]], axis=1)
        return hashlib.sha256(pairs.astype("<i8").tobytes()).hexdigest()

    @cached_property
    def _digests(self) -> Tensor:
        images = (image for block in self._images.blocks(self._indices) for image in block.numpy())
        return torch.tensor([_digest(image) for image in images], dtype=torch.int64)

    def _chosen(self, order: Tensor | None, limit: int | None) -> Tensor:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}, expected at least 1")
        if order is None:
            order = torch.arange(len(self))
        if order.dtype != torch.int64 or order.dim() != 1:
            raise ValueError(f"order is {order.dtype} {list(order.shape)}, expected int64 indices [N]")
        if ((order < 0) | (order >= len(self))).any():
            raise ValueError(f"order holds indices outside the {self.name} split of {len(self)} images")
        return order[:limit]

    def _prepared(self, chosen: Tensor) -> Tensor:
        parts = [self._prepared_block(block) for block in self._images.blocks(self._indices[chosen])]
        return torch.cat(parts, dim=parts[0].dim() - 4)

    def _prepared_block(self, block: Tensor) -> Tensor:
        """``[b, C, H, W]`` to images or, with an encoding, sequences; ``[b, T, C, H, W]`` to sequences."""
        if block.dim() == 5:
            frames = self.preprocessing(block.transpose(0, 1).flatten(0, 1))
            return frames.view(block.shape[1], block.shape[0], *frames.shape[1:])
        images = self.preprocessing(block)
        return images if self.encoding is None else self.encoding(images)


@dataclass(frozen=True, kw_only=True)
class DataSplits:
    """A data set in four disjoint splits; see ``seenn.data`` for the rule."""

    spec: str  # as given to load_data
    split_seed: int
    data_dir: str | None
    num_classes: int
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    frames: int | None = None  # T of recordings of events; None for images
    train: Split
    calibration: Split  # for the thresholds of neurons
    exit: Split  # for the exit policy
    test: Split  # for the figures that are reported

    def __post_init__(self) -> None:
        for name in SPLITS:
            split = getattr(self, name)
            split.spec, split.class_names, split.data = self.spec, self.class_names, self

    def with_preprocessing(self, preprocessing: Preprocessing) -> DataSplits:
        """The same splits, prepared in another way, for example as a pretrained network wants them."""
        splits = {name: getattr(self, name).with_preprocessing(preprocessing) for name in SPLITS}
        return replace(self, preprocessing=preprocessing, **splits)

    def with_encoding(self, encoding: PoissonEncoding | None) -> DataSplits:
        """The same splits, as sequences of spikes; see :meth:`Split.with_encoding`.

        Raises:
            ValueError: the data are recordings of events, which are spikes already.
        """
        if encoding is not None and self.frames is not None:
            raise ValueError(f"{self.spec} are events: they come as frames and need no encoding")
        return replace(self, **{name: getattr(self, name).with_encoding(encoding) for name in SPLITS})

    def manifest(self) -> dict[str, Any]:
        """Which data these are, as JSON: enough to load them again and to prove that they are the same.

        A train split that would have to be decoded from its files has no fingerprint here.
        """
        splits: dict[str, Split] = {name: getattr(self, name) for name in SPLITS}
        return {
            "spec": self.spec,
            "data_dir": self.data_dir,
            "split_seed": self.split_seed,
            **({} if self.frames is None else {"frames": self.frames}),
            "sizes": {name: len(split) for name, split in splits.items()},
            "fingerprints": {
                name: split.fingerprint for name, split in splits.items() if split.in_memory or name != "train"
            },
        }


def _digest(image: np.ndarray[Any, np.dtype[np.uint8]]) -> int:
    shape = np.array(image.shape, dtype="<i8").tobytes()
    hashed = hashlib.blake2b(shape + image.tobytes(), digest_size=8)
    return int.from_bytes(hashed.digest(), "little", signed=True)
