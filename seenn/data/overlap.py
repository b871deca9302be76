"""Whether splits share pictures, by the content of every one of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from seenn.data.reading import file_digest, file_size
from seenn.data.split import Split
from seenn.errors import DataError

logger = logging.getLogger(__name__)

TOLERATED = 0.001  # share of a split: published data sets hold a few pictures twice
COMPARED_FILES = 2000  # of a split of files so many, evenly spread, are compared: a train split may hold millions
HARMLESS = "too few to matter, or such as recur in the split itself"
DECODED_FILES = 20_000  # files that are decoded to be compared with pixels in memory; splits of more are not compared


def refuse_overlap(split: Split, others: Iterable[Split], whose: str = "") -> None:
    """Refuses a split that shares more pictures with another than published data sets do by chance.

    Pixels are compared with pixels, files with files byte by byte. Fewer than ``TOLERATED`` are a warning.

    Args:
        whose: what messages add to the others: ``" that the network was made with"``.

    Raises:
        DataError: the counts, and what to do.
    """
    found, refused = [], False
    for other in others:
        where = f"the {other.name} split of {other.spec}{whose}"
        if split.in_memory != other.in_memory and max(len(s.files or ()) for s in (split, other)) > DECODED_FILES:
            logger.warning("the %s split is not compared with %s: too many files to decode", split.name, where)
            continue
        if split.in_memory or other.in_memory:
            own = split.digests(decoded=True)
            known = torch.isin(own, other.digests(decoded=True))
            shared, compared, leaks = int(known.sum()), len(split), flatters(own, known)
        else:
            shared, compared = _shared_files(split, other)
            leaks = shared > TOLERATED * compared
        if shared:
            found.append(f"{shared} with {where}" + (f" (of {compared} compared)" if compared < len(split) else ""))
            refused |= leaks
    if not found:
        return
    message = f"the {split.name} split of {len(split)} images shares {', '.join(found)}"
    if refused:
        raise DataError(
            f"{message}: figures made there would flatter the network. Leave --split-seed as recorded, or take the "
            "shared images out of the data set"
        )
    logger.warning("%s; %s", message, HARMLESS)


def flatters(digests: Tensor, known: Tensor) -> bool:
    """Whether figures made on samples of these digests flatter what was made with the ``known`` ones.

    More than ``TOLERATED`` do, unless most of the known ones recur among the samples themselves: rows of a table with
    few distinct values repeat, whatever split they are in.
    """
    shared = int(known.sum())
    if shared <= TOLERATED * len(digests):
        return False
    _, places, counts = torch.unique(digests, return_inverse=True, return_counts=True)
    return int((known & (counts[places] == 1)).sum()) * 2 > shared


def _shared_files(split: Split, other: Split) -> tuple[int, int]:
    """How many files of ``split``, of how many, are also in ``other``; only files of the same size are read."""
    files, others = split.files or [], other.files or []
    chosen = files[:: math.ceil(len(files) / COMPARED_FILES)]
    sizes = set(map(file_size, chosen))
    hashed = {file_digest(path) for path in others if file_size(path) in sizes}
    return sum(file_digest(path) in hashed for path in chosen), len(chosen)
