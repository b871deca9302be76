"""What a label says, told by its type: one class, several at once, or a value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seenn.errors import DataError, listed

Task = Literal["classes", "multi-label", "regression"]


def task_of(labels: Tensor) -> Task:
    """Integers are classes, bools ``[N, K]`` several of them at once, floats values."""
    if labels.dtype == torch.bool:
        return "multi-label"
    return "regression" if labels.is_floating_point() else "classes"


def told_task(parts: Sequence[NDArray[Any]]) -> Task:
    """What the labels of a data set say, all its parts together, as :func:`as_labels` describes."""
    columns = [_one_axis(part) for part in parts]
    if not all(bool(((part == 0) | (part == 1)).all()) for part in columns):
        return "regression" if any(part.dtype.kind == "f" for part in columns) else "classes"
    several = any(part.ndim == 2 and not bool((part.sum(1) == 1).all()) for part in columns)
    return "multi-label" if several else "classes"


def as_labels(
    where: object, labels: NDArray[Any], num_classes: int | None = None, *, task: Task | None = None
) -> Tensor:
    """Classes int64 ``[N]``, multi-labels bool ``[N, K]``, or values float32 ``[N]`` or ``[N, D]``.

    Integers ``[N]`` or ``[N, 1]`` are classes, and so are bools, and floats that are all 0 or 1, as losses of yes or no
    want them. A matrix of zeros and ones is classes where each row has exactly one 1, else multi-labels. Other floats
    are values. ``task`` is what those of all parts say, where these are of one; by default what they say alone.

    Raises:
        DataError: labels of another type or shape, not finite, or not in ``[0, num_classes)``.
    """
    labels = _one_axis(labels)
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "buif":
        raise DataError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}, expected classes [N] as integers, a matrix "
            "[N, K] of 0 and 1, or values as floats"
        )
    if not np.isfinite(labels).all():
        raise DataError(f"{where}: {int((~np.isfinite(labels)).sum())} labels are NaN or infinite: leave them out")
    task = task or told_task([labels])
    if task == "multi-label" and labels.ndim == 2:
        return torch.from_numpy(labels.astype(bool))
    if task == "regression":
        return torch.from_numpy(labels.astype(np.float32))
    if labels.ndim == 2 and bool(((labels == 0) | (labels == 1)).all()):
        labels = labels.argmax(1)
    if labels.ndim == 2:
        raise DataError(f"{where}: labels are integers {list(labels.shape)} other than 0 and 1: store values as floats")
    upper = num_classes if num_classes is not None else np.iinfo(np.int64).max
    if len(bad := np.flatnonzero((labels < 0) | (labels >= upper))):
        allowed = f"0 to {num_classes - 1}" if num_classes is not None else "0 and up"
        raise DataError(
            f"{where}: {len(bad)} labels are out of range, the first at index {bad[0]} is {labels[bad[0]]}; "
            f"expected {allowed}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _one_axis(labels: NDArray[Any]) -> NDArray[Any]:
    """A column as a vector, which Keras and MedMNIST store."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def numbered(
    where: object, parts: Sequence[NDArray[Any]], known: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[NDArray[Any]]]:
    """The names of the classes in their order, and each part's labels as their numbers; () where labels are no names.

    The order is that of a network's ``known`` ones; None: as :func:`in_order` says.

    Raises:
        DataError: names that are no UTF-8, or that the network, or else the first part, has not.
    """
    if parts[0].dtype.kind not in "US":
        return (), list(parts)
    try:
        texts = [np.char.decode(part, "utf-8") if part.dtype.kind == "S" else part.astype(str) for part in parts]
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: labels are bytes that are no text in UTF-8: store names, or numbers") from error
    names = in_order(where, texts[0].ravel().tolist()) if known is None else [*known]
    if unknown := {label for part in texts for label in part.ravel().tolist()} - {*names}:
        if known is not None:
            own = f"whose names are {listed(known)}" if known else "which records no names"
            raise DataError(
                f"{where}: labels are names that are not of the network, {own}: {listed(sorted(unknown))}; give "
                "numbers in the order of its outputs"
            )
        raise DataError(f"{where}: test labels that no training image has: {listed(sorted(unknown))}; leave them out")
    return tuple(names), [_places(names, part) for part in texts]


def in_order(where: object, names: Iterable[str]) -> list[str]:
    """Each name of a class once, as networks number them: 0 to K-1 as these numbers, others by the alphabet.

    Raises:
        DataError: other numbers, of which the alphabet has another order.
    """
    found = sorted({*names})
    if not all(name.isdecimal() for name in found):
        return found
    by_number = sorted(found, key=int)
    if by_number != found and [int(name) for name in by_number] != list(range(len(found))):
        raise DataError(
            f"{where}: labels are {len(found)} numbers written as text, from {by_number[0]} to {by_number[-1]} and not "
            "0 to K-1: nothing says which output each is of; store integers from 0, or names"
        )
    return by_number


def _places(names: list[str], labels: NDArray[Any]) -> NDArray[np.int64]:
    found, inverse = np.unique(labels, return_inverse=True)
    return np.array([names.index(name) for name in found])[inverse].reshape(labels.shape)


def strata(labels: Tensor) -> Tensor:
    """What splits are balanced by, int64 ``[N]``: the classes; nothing where labels are something else."""
    return labels if task_of(labels) == "classes" else torch.zeros(len(labels), dtype=torch.int64)


def label_column(labels: Tensor) -> NDArray[np.int64]:
    """A number for each label, for fingerprints: the class, or a hash of whatever else it is."""
    if task_of(labels) == "classes":
        return labels.numpy()
    hashes = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in labels.numpy())
    return np.frombuffer(b"".join(hashes), dtype="<i8").astype(np.int64)
