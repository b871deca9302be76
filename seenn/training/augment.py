"""Augmentation of whole batches, as tensors: mirror images and shifts by a few pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from seenn.batch import Batch
from seenn.data import DataSplits


def as_images(batch: Batch) -> Tensor:
    """The inputs as ``[B, C, H, W]``; frames become channels, ``[B, T·C, H, W]``, so that all of them change alike."""
    return batch.inputs.transpose(0, 1).flatten(1, 2) if batch.is_sequence else batch.inputs


def with_images(batch: Batch, images: Tensor, labels: Tensor | None = None) -> Batch:
    """``batch`` with other images, laid out as :func:`as_images` does, and with other labels if they are given."""
    if batch.timesteps is not None:
        images = images.reshape(len(images), batch.timesteps, -1, *images.shape[2:]).transpose(0, 1)
    return replace(batch, inputs=images, labels=batch.labels if labels is None else labels)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random mirroring and shifts, drawn per image; pixels shifted in repeat the border."""

    flip: bool = False  # mirror left-right with probability 1/2
    shift: int = 0  # at most this many pixels up, down, left or right

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0 pixels, got {self.shift}")

    @classmethod
    def suggest(cls, splits: DataSplits, *, height: int | None = None) -> Augment:
        """Mirroring where the classes allow it, and ±1 pixel per 14 of height, from 24 pixels on; numbers stay as they
        are.

        ``height`` is the data's own where it is not given.
        """
        if not splits.train.has_pictures:
            return cls()
        height = splits.preprocessing.shape[-2] if height is None else height
        return cls() if height < 24 else cls(flip=not splits.chiral, shift=height // 14)

    def __call__(
        self, batch: Batch, generator: torch.Generator, rows: slice = slice(None), size: int | None = None
    ) -> Batch:
        """A new batch; all frames of a sample move together.

        Random numbers come from ``generator`` (on the CPU) alone. Where the batch is the part ``rows`` of one of
        ``size`` samples that several processes share, each is changed as it would be in the whole.
        """
        if not (self.flip or self.shift):
            return batch
        images = as_images(batch)
        part, _, height, width = images.shape
        size, device = part if size is None else size, images.device
        if self.flip:
            mirrored = torch.rand(size, generator=generator)[rows].lt(0.5).to(device)
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        if self.shift:
            padded = F.pad(images, (self.shift,) * 4, mode="replicate")
            offsets = torch.randint(0, 2 * self.shift + 1, (2, size, 1), generator=generator)[:, rows].to(device)
            lines = offsets[0] + torch.arange(height, device=device)  # [B, H]
            columns = offsets[1] + torch.arange(width, device=device)  # [B, W]
            sample = torch.arange(part, device=device)[:, None, None]
            # Indices on the first, third and fourth axis: the channels land last.
            images = padded[sample, :, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
        return with_images(batch, images)
