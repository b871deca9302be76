"""What a data set hands over before it is split: images, labels, class names, preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.data.preprocessing import Preprocessing
from seenn.errors import DataError


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory, all of one size."""

    pixels: Tensor  # uint8 [N, C, H, W]
    files: ClassVar[None] = None
    frames: ClassVar[None] = None

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        """The images at ``indices``, in that order, as uint8 ``[b, C, H, W]`` blocks of one size each."""
        yield self.pixels[indices]


@dataclass(frozen=True)
class FileImages:
    """Images or recordings in a file each, decoded one by one whenever they are asked for."""

    files: Sequence[Path]
    read: Callable[[Path], Tensor]  # an image, uint8 [C, H, W], or a recording, [T, C, H, W]
    frames: int | None = None  # T of recordings; None: images

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        """As of :class:`ArrayImages`; recordings are ``[b, T, C, H, W]``."""
        return (self.read(self.files[index]).unsqueeze(0) for index in indices.tolist())


Images = ArrayImages | FileImages


@dataclass(frozen=True)
class Labelled:
    """Images with a label each."""

    images: Images
    labels: Tensor  # int64 [N]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as it is stored: one part, or a training and a test part."""

    train: Labelled
    test: Labelled | None = None
    class_names: tuple[str, ...]
    preprocessing: Preprocessing | None = None  # None: mean and std are measured on the train split
    chiral: bool = False  # whether a mirror image is of another class, or of none


def labelled_arrays(
    where: object, images: NDArray[Any], labels: NDArray[Any], num_classes: int | None = None
) -> Labelled:
    """Checks an array of images ``[N, C, H, W]`` and one of labels ``[N]``, and makes tensors of them.

    Raises:
        DataError: any of them is empty or of a wrong type or shape, they differ in length, or a label is
            not in ``[0, num_classes)``.
    """
    if images.dtype != np.uint8:
        raise DataError(
            f"{where}: images are {images.dtype}, expected uint8 with pixels from 0 to 255; "
            "store the raw pixels, not normalised ones"
        )
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(f"{where}: images have shape {list(images.shape)}, expected [N, C, H, W]")
    if labels.ndim != 1:
        raise DataError(f"{where}: labels have shape {list(labels.shape)}, expected [N]: one a image")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: labels are {labels.dtype}, expected integers from 0")
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels; expected one label each")
    if len(images) == 0:
        raise DataError(f"{where}: holds no images")
    upper = num_classes if num_classes is not None else np.iinfo(np.int64).max
    if len(bad := np.flatnonzero((labels < 0) | (labels >= upper))):
        allowed = f"0 to {num_classes - 1}" if num_classes is not None else "0 and up"
        raise DataError(
            f"{where}: {len(bad)} labels are out of range, the first at index {bad[0]} is {labels[bad[0]]}; "
            f"expected {allowed}"
        )
    return Labelled(
        ArrayImages(torch.from_numpy(np.ascontiguousarray(images))),
        torch.from_numpy(labels.astype(np.int64)),
    )


def measure(where: object, images: Images, indices: Tensor) -> Preprocessing:
    """Preprocessing with the images' own size, and the mean and std of each channel over all their pixels.

    Counted on histograms, so the order of the images changes nothing.

    Raises:
        DataError: a channel has the same value everywhere.
    """
    pixels = torch.cat(list(images.blocks(indices)))  # [N, C, H, W]
    histograms = torch.stack([channel.flatten().bincount(minlength=256) for channel in pixels.unbind(1)])
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = histograms.double() / histograms.sum(1, keepdim=True)  # [C, 256]
    mean = share @ levels
    std = (share * (levels - mean.unsqueeze(1)).square()).sum(1).sqrt()
    if constant := [channel for channel, counts in enumerate(histograms) if (counts > 0).sum() == 1]:
        raise DataError(f"{where}: channels {constant} have the same value in every pixel of the train split")
    _, channels, height, width = pixels.shape
    return Preprocessing(
        channels=channels, height=height, width=width, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )
