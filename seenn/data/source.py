"""What a data set hands over before it is split: images, labels, class names, preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.data.preprocessing import Preprocessing
from seenn.errors import DataError


class Images(Protocol):
    """Raw images by index, in memory or decoded on demand."""

    @property
    def files(self) -> Sequence[Path] | None:
        """The file of each image, decoded whenever it is asked for; None where all are in memory."""

    @property
    def frames(self) -> int | None:
        """T where these are recordings of events, divided into frames; None for images."""

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        """The images at ``indices``, in that order, as uint8 ``[b, C, H, W]`` blocks of one size each.

        Recordings of events are ``[b, T, C, H, W]``.
        """


@dataclass(frozen=True)
class ArrayImages:
    """Images or recordings in memory, all of one size."""

    pixels: Tensor  # uint8 [N, C, H, W]; recordings [N, T, C, H, W]

    @property
    def files(self) -> None:
        return None

    @property
    def frames(self) -> int | None:
        return self.pixels.shape[1] if self.pixels.dim() == 5 else None

    def blocks(self, indices: Tensor) -> Iterator[Tensor]:
        yield self.pixels[indices]


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
