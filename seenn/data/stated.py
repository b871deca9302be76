"""What a person states about preprocessing, in timm's words, on top of what is known otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seenn.data.numbers import Numbers
from seenn.data.preprocessing import Preparation, refuse_other_unit


@dataclass(frozen=True, kw_only=True)
class Stated:
    """How images are prepared for a network, as far as somebody says it; None is not said.

    ::

        Stated(input_size=(160,), mean=(0.5,), std=(0.5,)).over(preprocessing)
    """

    input_size: tuple[int, ...] | None = None  # side, (H, W) or (C, H, W); of numbers the last axes of one sample
    in_chans: int | None = None
    mean: tuple[float, ...] | None = None  # one, or one a channel
    std: tuple[float, ...] | None = None  # likewise
    crop_pct: float | None = None  # fraction of the resized image that is kept
    interpolation: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())

    @property
    def normalisation(self) -> bool:
        """Whether mean and std are said, so that they are no guess."""
        return self.mean is not None and self.std is not None

    def refuse_pixels(self, samples: Tensor) -> None:
        """Refuses numbers from 0 to 255 under a mean and std that are of pixel/255: numbers have their own unit.

        Args:
            samples: ``[B, C, H, W]``, as they are stored.

        Raises:
            ValueError: says where they would come to lie.
        """
        if self.mean is None or self.std is None or samples.dtype == torch.uint8 or samples.dim() != 4:
            return
        low, high = float(samples.min()), float(samples.max())
        if low >= 0 and 16 < high <= 255 and max(map(abs, self.mean)) <= 1 and max(self.std) <= 1:
            mean, std = (",".join(f"{255 * value:.4g}" for value in values) for values in (self.mean, self.std))
            raise ValueError(
                f"images are numbers from {low:.4g} to {high:.4g}, which this mean and std bring up to "
                f"{(high - max(self.mean)) / max(self.std):.4g}: store pixels as uint8, or state mean {mean}, std {std}"
            )

    def over(self, base: Preparation) -> Preparation:
        """``base`` with what is said in its place. Where only the channels change, so do their mean and std: one
        channel gets the average of all, and all get that of one.

        Raises:
            ValueError: a value is out of range, or does not go with the others.
        """
        size = self.input_size or ()
        if isinstance(base, Numbers):
            if len(size) == 1 and len(base.shape) == 3:
                size *= 2
            shape = (*base.shape[: max(0, len(base.shape) - len(size))], *size) if size else base.shape
            return Numbers(shape=shape, mean=self.mean or base.mean, std=self.std or base.std)
        refuse_other_unit(self.mean or (), self.std or ())
        if len(size) > 3:
            raise ValueError(f"the input size of images must be H,W or C,H,W, got {','.join(map(str, size))}")
        height, width = (size * 2)[-2:] if len(size) == 1 else size[-2:] or (base.height, base.width)
        channels = self.in_chans or (size[0] if len(size) == 3 else base.channels)
        if len(size) == 3 and size[0] != channels:
            raise ValueError(f"the input size has {size[0]} channels and in_chans is {channels}: say one of them")
        return replace(
            base,
            channels=channels,
            height=height,
            width=width,
            mean=_spread(self.mean or _suited(base.mean, channels), channels),
            std=_spread(self.std or _suited(base.std, channels), channels),
            crop=base.crop if self.crop_pct is None else self.crop_pct,
            interpolation=self.interpolation or base.interpolation,
        )


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def _suited(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return (sum(values) / len(values),) if channels == 1 else values  # as timm does
