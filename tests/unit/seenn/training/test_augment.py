"""Mirroring and shifting of batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seenn.batch import Batch
from seenn.data import DataSplits
from seenn.training import Augment


def images() -> Tensor:
    return torch.arange(32 * 2 * 4 * 5).float().reshape(32, 2, 4, 5)


def test_every_image_is_mirrored_or_not() -> None:
    x = images()
    got = Augment(flip=True)(Batch(x), torch.Generator().manual_seed(0)).inputs
    same = (got == x).flatten(1).all(1)
    mirrored = (got == x.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 4 < int(mirrored.sum()) < 28


def test_every_image_is_one_of_its_shifts() -> None:
    x = images()
    got = Augment(shift=1)(Batch(x), torch.Generator().manual_seed(0)).inputs
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    shifts = [padded[:, :, i : i + 4, j : j + 5] for i in range(3) for j in range(3)]
    matches = torch.stack([(got == shift).flatten(1).all(1) for shift in shifts])
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) > 0).sum() >= 6


def test_all_frames_of_a_sample_change_as_its_only_frame_would() -> None:
    x, augment = images(), Augment(flip=True, shift=2)
    alone = augment(Batch(x), torch.Generator().manual_seed(0))
    frames = augment(Batch(torch.stack([x, -x, x]), is_sequence=True), torch.Generator().manual_seed(0))
    assert frames.is_sequence
    assert torch.equal(frames.inputs, torch.stack([alone.inputs, -alone.inputs, alone.inputs]))


def test_same_generator_seed_gives_the_same_batch() -> None:
    augment = Augment(flip=True, shift=2)
    first, second, other = (augment(Batch(images()), torch.Generator().manual_seed(s)).inputs for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(Augment()(Batch(images()), torch.Generator()).inputs, images())


def test_suggestion_follows_size_and_classes(digits: DataSplits) -> None:
    assert Augment.suggest(replace(digits, chiral=False), height=28) == Augment(flip=True, shift=2)
    assert Augment.suggest(digits, height=28) == Augment(flip=False, shift=2)
    assert Augment.suggest(digits) == Augment()


def test_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="shift must be at least 0 pixels, got -1"):
        Augment(shift=-1)
