"""What people call images: pictures, paths, arrays and tensors, told apart, and nothing guessed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from seenn.data.arrays import as_numbers, is_array, type_of, with_batch_axis
from seenn.data.picture import for_channels, picture_pixels, read_picture
from seenn.errors import DataTypeError, InputError

RANGE_TOLERANCE = 0.01  # of a channel's range that prepared values may lie outside it, as half precision does

Size = tuple[int, int, int]  # C, H, W of the network's input


def as_tensor(images: Any, size: Size) -> Tensor:
    """Raw pixels as uint8, prepared values as float32; ``[B, C, H, W]`` or ``[T, B, C, H, W]`` in the end.

    Raises:
        DataTypeError: another type, with what to do.
        InputError: the shape of raw pixels does not say which axis is which.
        DataError: a picture cannot be read.
    """
    if isinstance(images, str | Path | Image.Image):
        with for_channels(size[0]):
            return as_picture(images)[None]
    numbers = as_numbers(images) if is_array(images) else None
    if numbers is not None and numbers.dtype == torch.uint8:
        return _channels_first(numbers, size)
    if numbers is not None and numbers.is_floating_point():
        return with_batch_axis(numbers, size).to(torch.float32)
    raise DataTypeError(_what_to_do(images))


def as_picture(image: Any) -> Tensor:
    """A picture or the path of one as uint8 ``[C, H, W]``, see ``read_picture``; raises as :func:`as_tensor`."""
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, Image.Image):
        return picture_pixels("the image", image)
    raise DataTypeError(_what_to_do(image))


def _channels_first(images: Tensor, size: Size) -> Tensor:
    """Raw pixels with C where 1, 3 or the network's channels are."""
    counts = {1, 3, size[0]}
    shape = tuple(images.shape)
    if len(shape) == 2:
        return images[None, None]
    if len(shape) == 5 and shape[2] in counts:
        return images
    if len(shape) in (3, 4):
        # Three axes of which the first is 3 are an RGB image, or three gray ones; a gray network may be given both.
        first = shape[-3] in (counts if len(shape) == 4 else {1, size[0]})
        last = shape[-1] in counts
        if first and last:  # tiny images: as the network has it
            first, last = shape[-3:] == size, shape[-3:] == (*size[1:], size[0])
        if first != last:
            batch = images[None] if len(shape) == 3 else images
            return batch if first else batch.movedim(-1, -3)
    raise InputError(
        f"raw images have shape {list(shape)}, which does not say what they are: expected [B, C, H, W] or "
        f"[B, H, W, C] with C one of {', '.join(map(str, sorted(counts)))}, or frames [T, B, C, H, W]"
    )


def check_prepared(images: Tensor, size: Size, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Refuses what cannot be ``(x / 255 - mean) / std`` of an image.

    Raises:
        InputError: the shape is neither ``[B, C, H, W]`` nor ``[T, B, C, H, W]``; values are not finite, or outside
            ``[(0 - mean) / std, (1 - mean) / std]`` in some channel.
    """
    if images.dim() not in (4, 5) or tuple(images.shape[-3:]) != size:
        expected = ", ".join(map(str, size))
        raise InputError(
            f"images have shape {list(images.shape)}, expected [B, {expected}], or [T, B, {expected}] with one frame a "
            "timestep: give raw images as uint8, and they are resized"
        )
    if not images.numel():
        return
    axes = tuple(axis for axis in range(images.dim()) if axis != images.dim() - 3)
    low, high = (extreme.double().cpu() for extreme in (images.amin(axes), images.amax(axes)))
    offset, scale = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    least, most = (0 - offset) / scale, (1 - offset) / scale
    slack = RANGE_TOLERANCE / scale
    if bool(((low >= least - slack) & (high <= most + slack)).all()):
        return
    smallest, largest = low.min().item(), high.max().item()
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        raise InputError("images hold NaN or infinity: leave those out, or fill them in")
    if smallest >= 0 and largest > 16:
        reason = "are they pixels from 0 to 255? Give them as uint8, or divide by 255 and normalise"
    else:
        reason = "they were prepared in another way: use the network's own preprocessing"
    raise InputError(
        f"images have values from {smallest:.4g} to {largest:.4g}, but prepared for this network they lie between "
        f"{least.min().item():.4g} and {most.max().item():.4g}; {reason}"
    )


def _what_to_do(images: object) -> str:
    if isinstance(images, bytes):
        return "images are bytes: give their file's path, or PIL.Image.open(io.BytesIO(…))"
    return (
        f"images are {type_of(images)}: expected PIL images, paths, uint8 arrays or tensors of pixels from 0 to 255 "
        "(images.to(torch.uint8)), or floating-point ones that the preprocessing has prepared"
    )
