"""What a data set hands over before it is split: samples, labels, class names, preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.data.labels import Task, as_labels
from seenn.data.numbers import Numbers
from seenn.data.preprocessing import Preparation, Preprocessing
from seenn.errors import DataError


@dataclass(frozen=True)
class ArrayImages:
    """Samples in memory, all of one shape."""

    pixels: Tensor  # images, uint8 [N, C, H, W]; or numbers, float32 [N, ...]
    files: ClassVar[None] = None
    frames: ClassVar[None] = None

    @property
    def pictures(self) -> bool:
        """Whether they are pixels; else numbers."""
        return self.pixels.dtype == torch.uint8

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        """The samples at ``indices``, in that order, in blocks ``[b, ...]`` of one shape each."""
        yield self.pixels[indices]


@dataclass(frozen=True)
class ItemImages:
    """Samples that something gives one by one, by their number, whenever they are asked for."""

    item: Callable[[int], Tensor]  # an image, uint8 [C, H, W], or numbers, float32 [...]
    count: int  # N
    pictures: bool
    files: ClassVar[None] = None
    frames: ClassVar[None] = None

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        """As of :class:`ArrayImages`."""
        return (self.item(index).unsqueeze(0) for index in indices.tolist())


@dataclass(frozen=True)
class FileImages:
    """Images or recordings in a file each, decoded one by one whenever they are asked for."""

    files: Sequence[Path]
    read: Callable[[Path], Tensor]  # an image, uint8 [C, H, W], or a recording, [T, C, H, W]
    frames: int | None = None  # T of recordings; None: images
    pictures: ClassVar[bool] = True

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        """As of :class:`ArrayImages`; recordings are ``[b, T, C, H, W]``."""
        return (self.read(self.files[index]).unsqueeze(0) for index in indices.tolist())


Images = ArrayImages | ItemImages | FileImages


@dataclass(frozen=True)
class Labelled:
    """Samples with a label each."""

    images: Images
    labels: Tensor  # classes int64 [N], multi-labels bool [N, K], or values float32 [N] or [N, D]
    groups: Sequence[str] | None = None  # samples of one group, a patient or a film, never part


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as it is stored: one part, or a training and a test part."""

    train: Labelled
    test: Labelled | None = None
    class_names: tuple[str, ...]
    preprocessing: Preparation | None = None  # None: mean and std are measured on the train split
    chiral: bool = False  # whether a mirror image is of another class, or of none


def labelled_arrays(
    where: object,
    images: NDArray[Any],
    labels: NDArray[Any],
    num_classes: int | None = None,
    *,
    task: Task | None = None,
) -> Labelled:
    """Checks an array of samples and one of labels, and makes tensors of them.

    Args:
        images: images uint8 ``[N, C, H, W]``, or numbers ``[N, ...]``, which are taken as the network takes them.
        labels, num_classes, task: see ``seenn.data.labels.as_labels``.

    Raises:
        DataError: any of them is empty or of a wrong type or shape, numbers are not finite, they differ in length, or
            a label is not in ``[0, num_classes)``.
    """
    images = as_samples(where, images)
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels; expected one label each")
    if len(images) == 0:
        raise DataError(f"{where}: holds no images: add some")
    known = as_labels(where, labels, num_classes, task=task)
    return Labelled(ArrayImages(torch.from_numpy(images)), known)


def as_samples(where: object, images: NDArray[Any]) -> NDArray[Any]:
    """Images uint8 ``[N, C, H, W]``, or numbers float32 ``[N, ...]``; raises as :func:`labelled_arrays`."""
    if images.dtype.kind == "f" or (images.ndim == 2 and images.dtype.kind in "ui"):
        images = images.astype(np.float32)
        if bad := int((~np.isfinite(images)).sum()):
            raise DataError(f"{where}: {bad} numbers are NaN or infinite: leave those samples out, or fill them in")
    elif images.dtype.kind in "ui" and images.size and images.min() >= 0 and images.max() <= 255:
        images = images.astype(np.uint8)
    elif images.dtype != np.uint8:
        raise DataError(
            f"{where}: images are {images.dtype}, expected uint8 with pixels from 0 to 255, or floats as the network "
            "takes them: scale them yourself"
        )
    if 0 in images.shape[1:] or images.ndim < 2 or (images.dtype == np.uint8 and images.ndim != 4):
        raise DataError(f"{where}: images have shape {list(images.shape)}, expected [N, C, H, W]")
    return np.ascontiguousarray(images)


def measure(where: object, images: Images, indices: Tensor) -> Preparation:
    """Preprocessing with the images' own size, and the mean and std of each channel over all their pixels.

    Counted on histograms, so the order of the images changes nothing. Numbers are taken as they are.

    Raises:
        DataError: a channel has the same value everywhere.
    """
    first = next(images.blocks(indices[:1]))
    if first.dtype != torch.uint8:
        return Numbers(shape=tuple(first.shape[1:]))
    _, channels, height, width = first.shape
    histograms = torch.zeros(channels, 256, dtype=torch.int64)
    for block in images.blocks(indices):  # [b, C, H, W]
        histograms += torch.stack([channel.flatten().bincount(minlength=256) for channel in block.unbind(1)])
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = histograms.double() / histograms.sum(1, keepdim=True)  # [C, 256]
    mean = share @ levels
    std = (share * (levels - mean.unsqueeze(1)).square()).sum(1).sqrt()
    if constant := [channel for channel, counts in enumerate(histograms) if (counts > 0).sum() == 1]:
        raise DataError(
            f"{where}: channels {constant} have the same value in every pixel of the train split: leave them out, or "
            "state --std"
        )
    return Preprocessing(
        channels=channels, height=height, width=width, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )
