"""From an image, in whatever form people have it, to the network's input: channels, size, normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seenn.data.arrays import joined
from seenn.data.inputs import as_tensor, check_prepared
from seenn.data.numbers import Numbers
from seenn.data.reading import naming
from seenn.errors import CheckpointError, DataError, InputError

INTERPOLATIONS = ("bicubic", "bilinear")
MAX_SIDE = 16_384  # pixels
MAX_CHANNELS = 1024
_FAR = 4  # no mean or standard deviation of pixel/255, which lies between 0 and 1
MAX_ELONGATION = 64  # a resized image may have this many times the pixels of the network's input

_LUMA = (19595, 38470, 7471)  # ITU-R 601 weights in 1/65536, as PIL's convert("L")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a raw image becomes the network's input: ``(x / 255 - mean) / std``, after resizing if needed.

    An image of another size is resized (antialiased, aspect kept) until it covers ``height / crop`` by
    ``width / crop`` and its centre is cut out, as timm does with its ``crop_pct``; an image of the right
    size is left alone. Gray becomes RGB by repetition, RGB becomes gray by ITU-R 601 luma. Resized pixels
    are rounded to 8 bits, as PIL does, so a channel of the input always has one of 256 values.

    Raises:
        ValueError: a field is out of its range; the message names every such field.
    """

    channels: int  # of the network's input
    height: int  # pixels
    width: int  # pixels
    mean: tuple[float, ...]  # one a channel, in units of pixel / 255
    std: tuple[float, ...]  # likewise
    interpolation: str = "bicubic"  # one of INTERPOLATIONS
    crop: float = 1.0  # fraction of the resized image that is kept, in (0, 1]

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ValueError(f"Preprocessing: {'; '.join(problems)}")

    def __str__(self) -> str:
        return f"{'×'.join(map(str, self.shape))}, mean {_short(self.mean)}, std {_short(self.std)}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the network's input: channels, height, width."""
        return self.channels, self.height, self.width

    def _problems(self) -> Iterator[str]:
        for name, largest in (("channels", MAX_CHANNELS), ("height", MAX_SIDE), ("width", MAX_SIDE)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= largest:
                yield f"{name} is {value!r}, expected an integer from 1 to {largest}"
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or not all(map(_is_finite, values)):
                yield f"{name} is {values!r}, expected finite numbers"
            elif len(values) != self.channels:
                yield f"{name} has {len(values)} values, expected one for each of {self.channels} channels"
            elif name == "std" and min(values) <= 0:
                yield f"std is {values!r}, expected numbers above 0"
        if self.interpolation not in INTERPOLATIONS:
            yield f"interpolation is {self.interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}"
        if not _is_finite(self.crop) or not 0 < self.crop <= 1:
            yield f"crop is {self.crop!r}, expected a number in (0, 1]"

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 ``[B, C, H, W]`` to float32 ``[B, channels, height, width]``, on the same device.

        Raises as ``pixels``.
        """
        pixels = self.pixels(images).to(torch.float32)
        mean, std = (pixels.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return pixels.div_(255).sub_(mean).div_(std)

    def pixels(self, images: Tensor) -> Tensor:
        """The same without the normalisation: uint8 ``[B, channels, height, width]``.

        Raises:
            TypeError: the images are not uint8.
            ValueError: they are not ``[B, C, H, W]``.
            DataError: their channels cannot be converted, or they are too elongated to resize.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images are {images.dtype}, expected torch.uint8 with pixels from 0 to 255")
        if images.dim() != 4:
            raise ValueError(f"images have shape {list(images.shape)}, expected [B, C, H, W]")
        return self._resize(self._convert_channels(images)).to(torch.uint8)

    def prepare(self, images: Any) -> Tensor:
        """Images in any form as the network's input: float32 ``[B, channels, height, width]``, on the same device.

        PIL images, paths of files and uint8 arrays or tensors are raw pixels, which are resized and
        normalised: ``[H, W]``, ``[H, W, C]``, ``[C, H, W]``, or a batch of the latter two. Floating-point arrays and
        tensors are taken as prepared: ``[C, H, W]`` or ``[B, C, H, W]``. Frames, one a timestep, are
        ``[T, B, C, H, W]`` of either kind, and stay so. A list holds images one by one.

        Raises:
            DataTypeError: they are of another type.
            InputError: their shape does not say what they are; or prepared values are not finite, or outside
                ``[(0 - mean) / std, (1 - mean) / std]``, where no image comes to lie.
            DataError: a picture cannot be read or resized, or its channels cannot be converted.
        """
        if isinstance(images, list | tuple):
            if not images:
                raise InputError("there are no images in the list: add some")
            return joined([self.prepare(image) for image in images], self.shape)
        if isinstance(images, str | Path):
            with naming(images):
                return self(as_tensor(images, self.shape))
        tensor = as_tensor(images, self.shape)
        if tensor.dtype == torch.uint8:
            return self(tensor.flatten(0, -4)).view(*tensor.shape[:-3], *self.shape)
        check_prepared(tensor, self.shape, self.mean, self.std)
        return tensor

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, obj: object) -> Preprocessing:
        """The inverse of ``to_json``; accepts nothing else.

        Raises:
            CheckpointError: a field is missing, unknown, of another type or out of range.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(obj, dict) or obj.keys() != names:
            got = sorted(map(str, obj)) if isinstance(obj, dict) else type(obj).__name__
            raise CheckpointError(f"preprocessing: got {got}, expected exactly the fields {sorted(names)}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in obj.items()}
        try:
            return cls(**values)
        except ValueError as error:
            raise CheckpointError(f"preprocessing in the checkpoint cannot be used: {error}; write it again") from error

    def _convert_channels(self, images: Tensor) -> Tensor:
        channels = images.shape[1]
        if channels == self.channels:
            return images
        if channels == 1 and self.channels == 3:
            return images.expand(-1, 3, -1, -1)
        if channels == 3 and self.channels == 1:
            weights = torch.tensor(_LUMA, dtype=torch.int32, device=images.device).view(-1, 1, 1)
            luma = (images.to(torch.int32) * weights).sum(1, keepdim=True, dtype=torch.int32)
            return ((luma + 0x8000) >> 16).to(torch.uint8)
        raise DataError(
            f"images have {channels} channels and the network takes {self.channels}; only gray to RGB "
            "(1 to 3) and RGB to gray (3 to 1) are converted: store the images with the network's channels"
        )

    def _resize(self, images: Tensor) -> Tensor:
        if images.shape[-2:] == (self.height, self.width):
            return images
        height, width = self._covering_size(*images.shape[-2:])
        if height * width > MAX_ELONGATION * self.height * self.width:
            raise DataError(
                f"an image {images.shape[-1]} pixels wide and {images.shape[-2]} high is too elongated for an input "
                f"{self.width} wide and {self.height} high: crop it first"
            )
        pixels = images.to(torch.float32)
        resized = F.interpolate(pixels, size=(height, width), mode=self.interpolation, antialias=True)
        top, left = round((height - self.height) / 2), round((width - self.width) / 2)
        cut = resized[..., top : top + self.height, left : left + self.width]
        return cut.round().clamp(0, 255)  # bicubic overshoots

    def _covering_size(self, height: int, width: int) -> tuple[int, int]:
        """The size, of the image's aspect, that just covers the input divided by ``crop``."""
        # The small term: 224 / (224 / 354) is just below 354 in floating point.
        target_height, target_width = (math.floor(n / self.crop + 1e-9) for n in (self.height, self.width))
        if target_height * width >= target_width * height:
            return target_height, target_height * width // height
        return target_width * height // width, target_width


#: How samples become the network's input, pictures or numbers.
Preparation = Preprocessing | Numbers


def refuse_other_unit(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raises ValueError for the mean and std of pixels from 0 to 255."""
    if max(map(abs, mean), default=0) > _FAR or max(std, default=0) > _FAR:
        own = (",".join(f"{value / 255:.4g}" for value in values) for values in (mean, std))
        raise ValueError(
            f"mean {_short(mean)} and std {_short(std)} are of pixels from 0 to 255, expected those of pixel/255: "
            "state mean {}, std {}".format(*own)
        )


def suited(where: object, preparation: Preparation, *, pictures: bool) -> Preparation:
    """``preparation`` for these samples: numbers are taken as prepared by a network that is for pictures.

    Raises:
        DataError: the samples are pictures, and the network takes numbers.
    """
    if pictures and isinstance(preparation, Numbers):
        raise DataError(
            f"{where} has pictures, and the network takes numbers of shape {list(preparation.shape)}: give it what it "
            "was made for, stored as floats"
        )
    return preparation if pictures or isinstance(preparation, Numbers) else Numbers(shape=preparation.shape)


def preparation_from_json(obj: object) -> Preparation:
    """What ``to_json`` of either wrote.

    Raises:
        CheckpointError: ``obj`` is something else.
    """
    return Numbers.from_json(obj) if isinstance(obj, dict) and "shape" in obj else Preprocessing.from_json(obj)


def _short(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
