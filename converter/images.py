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
    """Samples of a batch, or of a split, which decodes them when they are asked for.

    Images ``[C, H, W]``, signals ``[C, L]`` or vectors ``[F]``.

    Raises:
        CalibrationError: fewer than 16, or not images of floats.
    """

    def __init__(self, data: Batch | Split, order: Tensor | None = None) -> None:
        """``order``: indices into ``data``; None takes all as they come."""
        self._data = data
        self._order = torch.arange(len(data)) if order is None else order
        if len(self):
            _check(self.first(1))
        if len(self) < MIN_IMAGES:
            raise CalibrationError(
                f"{len(self)} calibration images are too few: thresholds would describe only those; give at least "
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
        return len(self._order)

    @property
    def independent(self) -> int:
        """How many of them are independent: as many as they have groups, such as views of one thing, or all."""
        groups = None if isinstance(self._data, Batch) else self._data.groups
        return len(self) if groups is None else len({groups[index] for index in self._order.tolist()})

    def first(self, count: int) -> Tensor:
        """The first ``count`` images."""
        return next(self.chunks(count, slice(0, min(count, len(self)))))

    def chunks(self, size: int, part: slice) -> Iterator[Tensor]:
        """The images of ``part``, ``size`` at a time.

        Raises:
            CalibrationError: a pixel is not finite.
            DataError: an image cannot be decoded.
        """
        data, order = self._data, self._order[part]
        batches = data[order].split(size) if isinstance(data, Batch) else data.batches(size, order=order)
        for batch in batches:
            if not bool(batch.inputs.isfinite().all()):
                raise CalibrationError("the calibration images hold NaN or infinite pixels: check the preprocessing")
            yield batch.inputs


def _check(example: Tensor) -> None:
    if not example.is_floating_point():
        raise CalibrationError(f"calibration images are {example.dtype}: prepare them as for the ANN, as floats")
