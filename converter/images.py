"""The images that calibrate, read a few at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.data.rule import SPLITS
from seenn.errors import CalibrationError

if TYPE_CHECKING:
    from seenn.data import DataSplits, Split

MIN_IMAGES = 16


def too_few(splits: DataSplits) -> str | None:
    """That the calibration split cannot give thresholds, and how many images would do; None where it can."""
    found, total = len(splits.calibration), sum(len(getattr(splits, name)) for name in SPLITS)
    if found >= MIN_IMAGES:
        return None
    return (
        f"{splits.spec} has {total} images, of which {found} calibrate: too few, at least {MIN_IMAGES} are needed. "
        f"Bring {math.ceil(total * MIN_IMAGES / found)} images or more in all"
    )


def refuse_few(splits: DataSplits) -> None:
    """Raises CalibrationError where there are too few."""
    if few := too_few(splits):
        raise CalibrationError(few)


class CalibrationImages:
    """The first ``count`` samples of a batch, or of a split, which decodes them when they are asked for.

    Images ``[C, H, W]``, signals ``[C, L]`` or vectors ``[F]``.

    Raises:
        CalibrationError: fewer than 16, or not images of floats.
    """

    def __init__(self, data: Batch | Split, count: int | None = None) -> None:
        self._data = data
        self._count = len(data) if count is None else count
        if self._count:
            _check(self.first(1))
        if self._count < MIN_IMAGES:
            raise CalibrationError(
                f"{self._count} calibration images are too few: thresholds would describe only those; give at least "
                f"{MIN_IMAGES}, better 256"
            )
        self.shape = tuple(self.first(1).shape[1:])

    @classmethod
    def of(cls, images: Tensor | CalibrationImages) -> CalibrationImages:
        """From all images of a tensor ``[N, C, H, W]``; what is such images already stays."""
        if isinstance(images, CalibrationImages):
            return images
        if images.dim() < 2:
            raise CalibrationError(f"calibration samples must be [N, C, ...] or [N, F], got shape {list(images.shape)}")
        return cls(Batch(images))

    def __len__(self) -> int:
        return self._count

    def first(self, count: int) -> Tensor:
        """The first ``count`` images."""
        return next(self.chunks(count, slice(0, min(count, len(self)))))

    def chunks(self, size: int, part: slice) -> Iterator[Tensor]:
        """The images of ``part``, ``size`` at a time.

        Raises:
            CalibrationError: a pixel is not finite.
            DataError: an image cannot be decoded.
        """
        data, order = self._data, torch.arange(part.start, part.stop)
        batches = data[part].split(size) if isinstance(data, Batch) else data.batches(size, order=order)
        for batch in batches:
            if not bool(batch.inputs.isfinite().all()):
                raise CalibrationError("the calibration images hold NaN or infinite pixels: check the preprocessing")
            yield batch.inputs


def _check(example: Tensor) -> None:
    if not example.is_floating_point():
        raise CalibrationError(f"calibration images are {example.dtype}: prepare them as for the ANN, as floats")
