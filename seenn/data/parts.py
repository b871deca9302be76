"""The names by which people call the parts of a data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from seenn.errors import DataError

logger = logging.getLogger(__name__)

Part = Literal["train", "val", "test"]
NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "dev": "val",
    "trn": "train",
    "tst": "test",
    "tr": "train",
    "te": "test",
}
#: What stands beside them: ``training_set``, ``test-images``, ``seg_train``, ``val2017``, ``trainset``.
_BESIDE = frozenset(("data", "dataset", "image", "images", "img", "imgs", "pictures", "seg", "set", "split"))

_IMAGES = frozenset(("image", "images", "img", "imgs", "pictures", "photos", "scans"))
_MASKS = frozenset(("annotations", "groundtruth", "gt", "mask", "masks", "segmentation", "segmentations"))


#: The stem of a mask's file beside that of its image: ``x_mask``, ``x_mask_1``.
_OF_MASK = re.compile(rf"(.+?)[\s_.-]+(?:{'|'.join(sorted(_MASKS))})(?:[\s_-]*\d+)?", re.IGNORECASE)

_JOINED = re.compile(rf"({'|'.join(NAMES)})({'|'.join(sorted(_BESIDE))})")
#: In names of folders that are parts of a data set, but say in no known way of which kind.
_DIVIDED = frozenset(("eval", "evaluation", "fold", "holdout", "part", "partition", "split", "subset"))


def part_of(name: str) -> Part | None:
    """What a folder, an array or a column calls so, in any case; None for other names."""
    words = [word for word in _words(name) if word not in _BESIDE]
    return NAMES.get(words[0]) if len(words) == 1 else None


def parts_among(names: Iterable[str]) -> list[str]:
    """The folders that are parts; two letters alone, which may be a language, only where every folder is one."""
    names = list(names)
    parts = [name for name in names if part_of(name)]
    return parts if len(parts) == len(names) else [name for name in parts if len(max(_words(name), key=len)) > 2]


def masks_among(names: Iterable[str]) -> tuple[str, str] | None:
    """Of folders beside each other, one of images and one of masks of them; None where there are not both."""
    words = {name: set(_words(name)) for name in names}
    masks = next((name for name, found in words.items() if found & _MASKS), None)
    images = next((name for name, found in words.items() if found and found <= _IMAGES), None)
    return None if masks is None or images is None else (images, masks)


def image_of(stem: str) -> str | None:
    """What the image is called of which a file of this stem is the mask; None where it is not called like a mask."""
    found = _OF_MASK.fullmatch(stem)
    return None if found is None else found[1]


def has_parts(data: Any) -> bool:
    """Whether it is a mapping that has parts by their names: ``{"train": …, "test": …}``."""
    return isinstance(data, Mapping) and len(data) > 0 and all(isinstance(key, str) and part_of(key) for key in data)


def sounds_like_part(name: str) -> bool:
    """Whether a word of it is of parts: ``fold_1``, ``train_station``."""
    return any(word in NAMES or word in _DIVIDED for word in _words(name))


def _words(name: str) -> list[str]:
    words = filter(None, re.split(r"[\W\d_]+", name.lower()))
    return [joined[1] if (joined := _JOINED.fullmatch(word)) else word for word in words]


def choose_parts(where: object, names: Iterable[str]) -> tuple[str, str | None]:
    """Of what is there, the training part and the test part, by their own names.

    ``val`` stands in for a missing ``test``, and is left out beside one, with a warning. Any part alone is the only
    one, of which all splits are dealt.

    Raises:
        DataError: several names of one part, or ``val`` and ``test`` without ``train``.
    """
    found: dict[str, str] = {}
    for name in names:
        part = part_of(name)
        if part is None:
            continue
        if part in found:
            raise DataError(f"{where}: {found[part]} and {name} both mean {part}: rename or take out one of them")
        found[part] = name
    if len(found) == 1:
        (only,) = found.values()
        logger.warning("%s: has %s alone; all four splits are dealt from it", where, only)
        return only, None
    if "train" not in found:
        raise DataError(f"{where}: has {' and '.join(found.values())} but no train; expected train beside one of them")
    if len(found) == 3:
        logger.warning("%s: has %s/ and %s/; %s/ is taken, %s/ is left out", where, *_both(found), *_both(found))
    return found["train"], found.get("test", found.get("val"))


def _both(found: dict[str, str]) -> tuple[str, str]:
    return found["test"], found["val"]
