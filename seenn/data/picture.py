"""One image to 8-bit pixels, through PIL."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from seenn.data.reading import reading
from seenn.errors import DataError

# Only formats that PIL decodes itself: it would hand EPS, for one, to an external program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def read_picture(path: str | os.PathLike[str]) -> Tensor:
    """An image file as uint8 ``[C, H, W]``: gray stays one channel, everything else becomes RGB.

    As torchvision's and timm's loaders do, transparency and EXIF orientation are ignored and the first frame
    of several is taken, so accuracies compare with published ones.

    Raises:
        DataError: the file is missing, damaged, of another format, deeper than 8 bits, or so large (PIL's
            ``MAX_IMAGE_PIXELS``) that decoding it could exhaust memory.
    """
    file = Path(path)
    with reading(file):
        if not file.is_file():
            raise DataError(f"{file}: no such image file")
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
        with image:
            return picture_pixels(where, image)


def picture_pixels(where: object, image: Image.Image) -> Tensor:
    """A PIL image as uint8 ``[C, H, W]``; as :func:`read_picture`.

    Raises:
        DataError: its pixels are deeper than 8 bits.
    """
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{where}: pixels are deeper than 8 bits (PIL mode {image.mode}); "
            "expected 8-bit gray or colour: convert it, choosing how to scale"
        )
    pixels = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()
