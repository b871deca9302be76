"""What a manifest remembers of arrays and data sets that a program held: no name loads them again."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST = 1 << 14  # digests: those that are smallest are a sample of the rest, the same one in whatever holds them


def remember(digests: Tensor) -> str:
    """The distinct ``digests`` (see ``Split.digests``), the ``MOST`` smallest where there are more, as text."""
    smallest = np.unique(digests.numpy())[:MOST]
    return base64.b64encode(smallest.astype("<i8").tobytes()).decode("ascii")


def among(digests: Tensor, remembered: Any) -> tuple[Tensor, Tensor]:
    """Those of these images that could be compared, and which of them are among those remembered.

    Text that ``remember`` has not written holds none: manifests are read from files.
    """
    none = digests[:0]
    try:
        known = np.frombuffer(base64.b64decode(remembered, validate=True), dtype="<i8").astype(np.int64)
    except (TypeError, ValueError, binascii.Error):
        return none, none.bool()
    if not len(known):
        return none, none.bool()
    compared = digests if len(known) < MOST else digests[digests <= int(known[-1])]
    return compared, torch.isin(compared, torch.from_numpy(known))
