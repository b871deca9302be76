"""Augmentation of whole batches, as tensors: mirror images and shifts by a few pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

#: Data sets in which a mirrored image is another class, or none.
CHIRAL = ("digits", "mnist", "kmnist", "emnist", "qmnist", "svhn", "n-mnist", "dvs-gesture")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random mirroring and shifts, drawn per image; pixels shifted in repeat the border."""

    flip: bool = False  # mirror left-right with probability 1/2
    shift: int = 0  # at most this many pixels up, down, left or right

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0 pixels, got {self.shift}")

    @classmethod
    def suggest(cls, dataset: str, *, height: int) -> Augment:
        """Mirroring where the classes allow it, and ±1 pixel per 14 of height, from 24 pixels on."""
        if height < 24:
            return cls()
        return cls(flip=dataset not in CHIRAL, shift=height // 14)

    def __call__(
        self, images: Tensor, generator: torch.Generator, rows: slice = slice(None), batch: int | None = None
    ) -> Tensor:
        """A new batch ``[B, C, H, W]``, or of sequences ``[T, B, C, H, W]``.

        Random numbers come from ``generator`` (on the CPU) alone.

        Where the images are the part ``rows`` of a ``batch`` that several processes share, each image is
        changed as it would be in the whole batch.
        """
        if images.dim() == 5:  # all frames of a sequence [T, B, C, H, W] move together
            merged = self(images.transpose(0, 1).flatten(1, 2), generator, rows, batch)
            frames, batch_size, channels = images.shape[:3]
            return merged.reshape(batch_size, frames, channels, *merged.shape[2:]).transpose(0, 1)
        part, _, height, width = images.shape
        batch = part if batch is None else batch
        device = images.device
        if self.flip:
            mirrored = torch.rand(batch, generator=generator)[rows].lt(0.5).to(device)
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        if self.shift:
            padded = F.pad(images, (self.shift,) * 4, mode="replicate")
            offsets = torch.randint(0, 2 * self.shift + 1, (2, batch, 1), generator=generator)[:, rows].to(device)
            lines = offsets[0] + torch.arange(height, device=device)  # [B, H]
            columns = offsets[1] + torch.arange(width, device=device)  # [B, W]
            sample = torch.arange(part, device=device)[:, None, None]
            # Indices on the first, third and fourth axis: the channels land last.
            images = padded[sample, :, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
        return images
