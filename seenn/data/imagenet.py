"""How image files are prepared where nobody says it: as ImageNet's are, the usual thing for networks of photographs."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from seenn.data.picture import FORMATS
from seenn.data.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

IMAGENET = Preprocessing(
    channels=3, height=224, width=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875
)

LOOKED_AT = 64  # files, evenly spread, whose sizes are compared
LARGEST_INPUT = 256  # pixels a side: pictures of one size up to this were made to be a network's input


def likely_preprocessing(files: Sequence[Path]) -> Preprocessing:
    """ImageNet's normalisation, at the pictures' own size where they are small and all of one, else at 224 pixels.

    Pictures that cannot be opened do not count; they are named when they are decoded.
    """
    sizes = set()
    for file in files[:: math.ceil(len(files) / LOOKED_AT)]:
        try:
            with Image.open(file, formats=FORMATS) as image:
                sizes.add(image.size)
        except Exception as error:
            logger.debug("%s: %s", file, error)
    if len(sizes) != 1 or max(max(sizes)) > LARGEST_INPUT:
        return IMAGENET
    ((width, height),) = sizes
    return replace(IMAGENET, height=height, width=width, crop=1.0)
