"""Which image goes to which split: held out by file order, then shuffled, stratified and dealt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SPLITS = ("train", "calibration", "exit", "test")

HELD_OUT = 6  # one in six of a training part is kept from training
DEAL_HELD_OUT = ("exit", "calibration", "exit", "exit", "exit")
DEAL_ALL = ("train", "exit", "train", "test", "train", "calibration", "train", "exit", "train", "test")


def divide(labels: Tensor, *, has_test: bool, seed: int, groups: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Indices for each split of one part with classes ``labels`` ``[N]``; disjoint, and together all N.

    With ``has_test`` the part is a training part: the splits are train (the same for every seed),
    calibration and exit. Without, test is dealt from it too. ``groups`` are dealt as wholes, each by its first class.
    """
    if groups is not None:
        return _divide_groups(labels, groups, has_test, seed)
    everything = torch.arange(len(labels))
    if not has_test:
        return deal(labels, everything, DEAL_ALL, seed)
    held = held_out(labels)
    return {"train": everything[~held], **deal(labels, everything[held], DEAL_HELD_OUT, seed)}


def hold_out(labels: Tensor, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indices of what stays and of ``count`` that are held out, each with its share of every class, shuffled."""
    everything, marks = torch.arange(len(labels)), np.arange(len(labels) + 1) * count // max(1, len(labels))
    dealt = deal(labels, everything, tuple(np.where(np.diff(marks) > 0, "held", "kept").tolist()), seed)
    return tuple(dealt.get(name, everything[:0]) for name in ("kept", "held"))  # type: ignore[return-value]


def _divide_groups(labels: Tensor, groups: Sequence[str], has_test: bool, seed: int) -> dict[str, Tensor]:
    """The rule for groups in place of images, in the order in which they begin; images follow their group, shuffled."""
    _, first, number = np.unique(np.array(groups), return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # of each group among all, by its first image
    of_image = torch.from_numpy(order[number])
    starts = torch.from_numpy(np.sort(first))
    dealt = divide(labels[starts], has_test=has_test, seed=seed)
    keys = np.random.PCG64(seed).random_raw(len(labels))
    parts = {name: torch.isin(of_image, chosen).nonzero().squeeze(1) for name, chosen in dealt.items()}
    return {name: part[torch.from_numpy(np.argsort(keys[part.numpy()], kind="stable"))] for name, part in parts.items()}


def held_out(labels: Tensor) -> Tensor:
    """Bool ``[N]``: the last sixth in file order, or of each class where the file is sorted by class."""
    run = torch.nn.functional.pad((labels.diff() != 0).cumsum(0), (1, 0)) if len(labels) else labels
    is_sorted = len({*run.tolist()}) == len({*labels.tolist()})  # in whatever order of the classes
    groups = run if is_sorted else torch.zeros_like(labels)
    counts = groups.bincount()
    ends = counts.cumsum(0)
    held = ends // HELD_OUT - (ends - counts) // HELD_OUT  # adds up to N // 6 however small the groups
    from_end = ends[groups] - 1 - torch.arange(len(labels))
    return from_end < held[groups]


def deal(labels: Tensor, indices: Tensor, hands: tuple[str, ...], seed: int) -> dict[str, Tensor]:
    """Shuffles, sorts by class, and deals in turn, so that every hand gets its share of every class.

    Each hand is then in shuffled order. The random keys are raw PCG64 output, which numpy keeps stable
    between its versions.
    """
    keys = np.random.PCG64(seed).random_raw(len(indices))
    by_class = np.lexsort((keys, labels[indices].numpy()))
    receiver = np.resize(np.array(hands), len(indices))
    dealt = {}
    for name in dict.fromkeys(hands):
        hand = by_class[receiver == name]
        dealt[name] = indices[torch.from_numpy(hand[np.argsort(keys[hand], kind="stable")])]
    return dealt
