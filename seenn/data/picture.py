"""One image to 8-bit pixels, through PIL."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from seenn.data.reading import reading
from seenn.errors import DataError, listed

logger = logging.getLogger(__name__)

# Only formats that PIL decodes itself: it would hand EPS, for one, to an external program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_ENDINGS = "bmp gif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())

_WITH_ALPHA = 4  # channels
_wanted: ContextVar[int | None] = ContextVar("wanted", default=None)

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


@contextmanager
def for_channels(count: int) -> Iterator[None]:
    """Inside, pictures are read for a network of so many channels: where it takes four, with their transparency."""
    before = _wanted.set(count)
    try:
        yield
    finally:
        _wanted.reset(before)


def read_picture(path: str | os.PathLike[str]) -> Tensor:
    """An image file as uint8 ``[C, H, W]``: gray stays one channel, everything else becomes RGB.

    As torchvision's and timm's loaders do, transparency and EXIF orientation are ignored and the first frame
    of several is taken, so accuracies compare with published ones; inside ``for_channels(4)`` pictures with
    transparency become RGBA. 16-bit gray is scaled to 8 bits.

    Raises:
        DataError: the file is missing, damaged, of another format, deeper than 16 bits, or so large (PIL's
            ``MAX_IMAGE_PIXELS``) that decoding it could exhaust memory.
    """
    file = Path(path)
    with reading(file):
        if not file.is_file():
            raise DataError(f"{file}: no such image file; check the path")
        with file.open("rb") as stream:
            return decode_picture(file, stream)


def decode_picture(where: object, stream: BinaryIO) -> Tensor:
    """An image file's bytes as uint8 ``[C, H, W]``; as :func:`read_picture`, whose errors name ``where``."""
    with reading(where), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(stream, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise DataError(
                f"{where}: is damaged or no {', '.join(FORMATS)} picture: fetch or write it again"
            ) from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            most = Image.MAX_IMAGE_PIXELS or 0
            raise DataError(f"{where}: too large, more than {most:,} pixels: make it smaller first") from error
        with image:
            return picture_pixels(where, image)


def picture_pixels(where: object, image: Image.Image) -> Tensor:
    """A PIL image as uint8 ``[C, H, W]``; as :func:`read_picture`.

    Raises:
        DataError: its pixels are deeper than 16 bits.
    """
    if image.getexif().get(_ORIENTATION, 1) != 1:
        _warn("pictures such as %s are to be turned by their EXIF orientation, which training ignores, and so it is "
              "here: turn them upright yourself if the network has learned so", where)  # fmt: skip
    if image.mode.startswith(("I", "F")):
        return _deep(where, image)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if _wanted.get() == _WITH_ALPHA and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        mode = "RGBA"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))  # to convert what is so is a copy
    channels_first = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return torch.from_numpy(np.array(channels_first, order="C"))


def _deep(where: object, image: Image.Image) -> Tensor:
    """16-bit gray to 8 bits, each 257 levels to one."""
    values = np.array(image)
    if image.mode.startswith("F") or values.min() < 0 or values.max() > 65_535:
        raise DataError(
            f"{where}: pixels are deeper than 16 bits (PIL mode {image.mode}); "
            "expected 8-bit or 16-bit gray, or colour: convert it, choosing how to scale"
        )
    _warn("pictures such as %s have 16 bits: their levels 0 to 65535 become 0 to 255; scale them yourself if they use "
          "less of that range", where)  # fmt: skip
    return torch.from_numpy(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))[None]


def say_left_out(where: object, endings: Counter[str]) -> None:
    """One line about files that are not taken, by their endings, if there are any."""
    if endings:
        shown = listed(f"{ending or 'no ending'} ({count})" for ending, count in endings.most_common())
        logger.warning("%s: %d files left out, by their endings: %s", where, endings.total(), shown)


_said: set[str] = set()


def _warn(text: str, where: object) -> None:
    """Of each kind of picture the first alone, or a folder would say it a thousand times."""
    if text not in _said:
        _said.add(text)
        logger.warning(text, where)
