"""A split: batches, raw images, digests, fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seenn.data import DataSplits, Preprocessing, Split, load_data
from seenn.data.encoding import PoissonEncoding
from seenn.data.source import labelled_arrays

IDENTITY = Preprocessing(channels=1, height=2, width=2, mean=(0.0,), std=(1 / 255,))


@pytest.fixture
def split() -> Split:
    images = np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2)
    part = labelled_arrays("ten", images, np.arange(10))
    return Split("exit", part, torch.tensor([9, 4, 7, 0, 2]), IDENTITY)


@pytest.fixture(scope="module")
def digits() -> DataSplits:
    return load_data("digits")


def test_batches_keep_the_order_of_the_split_and_pair_images_with_labels(split: Split) -> None:
    batches = list(split.batches(2))
    assert [batch.labels.tolist() for batch in batches] == [[9, 4], [7, 0], [2]]
    for batch in batches:
        assert torch.equal(batch.inputs[:, 0, 0, 0].round(), batch.labels * 4.0)


def test_order_and_limit_choose_images(split: Split) -> None:
    (batch,) = split.batches(8, order=torch.tensor([4, 0, 1]), limit=2)
    assert batch.labels.tolist() == [2, 9]
    assert batch.inputs.shape == (2, 1, 2, 2)
    assert torch.equal(split.images(limit=3), torch.cat([one.inputs for one in split.batches(1, limit=3)]))
    assert len(split.images()) == len(split) == 5


def test_raw_is_the_stored_image(split: Split) -> None:
    assert torch.equal(split.raw(1), torch.tensor([[[16, 17], [18, 19]]], dtype=torch.uint8))
    with pytest.raises(IndexError, match="index 5 is outside the exit split of 5 images"):
        split.raw(5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"batch_size": 1, "limit": 0}, "limit is 0, expected at least 1"),
        ({"batch_size": 1, "order": torch.tensor([5])}, "outside the exit split of 5 images"),
        ({"batch_size": 1, "order": torch.tensor([-1])}, "outside the exit split of 5 images"),
        ({"batch_size": 1, "order": torch.rand(5)}, r"order is torch\.float32 \[5\], expected int64"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(split: Split, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split.batches(**arguments)


def test_fingerprint_does_not_depend_on_the_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 2, 2), dtype=np.uint8)
    part = labelled_arrays("twenty", images, np.arange(20) % 3)
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    one, other = (Split("test", part, order, IDENTITY) for order in (torch.arange(20), shuffled))
    assert one.fingerprint == other.fingerprint
    assert torch.equal(one.digests()[shuffled], other.digests())


def test_fingerprint_changes_with_a_pixel_a_label_an_image_and_the_shape() -> None:
    images, labels = np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2), np.arange(4)
    changed = images.copy()
    changed[2, 0, 1, 1] += 1
    variants = [
        (images, labels),
        (changed, labels),
        (images, np.array([0, 1, 2, 2])),
        (images[:3], labels[:3]),
        (images.reshape(4, 1, 1, 4), labels),
    ]
    parts = [labelled_arrays("four", *variant) for variant in variants]
    assert len({Split("test", p, torch.arange(len(p.labels)), IDENTITY).fingerprint for p in parts}) == 5


def test_digests_show_the_same_picture_in_two_splits() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 2, 2), dtype=np.uint8)
    images[5] = images[0]
    part = labelled_arrays("six", images, np.zeros(6, dtype=int))
    train, test = (Split("", part, torch.arange(*ends), IDENTITY) for ends in ((0, 4), (4, 6)))
    assert torch.isin(test.digests(), train.digests()).tolist() == [False, True]


def test_nothing_stale_is_kept_where_a_split_changes(split: Split) -> None:
    fingerprint, digests = split.fingerprint, split.digests()
    numbered = split.numbered(3)
    assert numbered.fingerprint != fingerprint
    assert torch.equal(numbered.digests(), digests[:3])
    assert split.with_preprocessing(replace(IDENTITY, mean=(1.0,))).fingerprint == fingerprint
    split.labels[0] += 1
    assert split.fingerprint != fingerprint


def test_a_split_knows_its_data_set_and_its_siblings(digits: DataSplits, split: Split) -> None:
    test = digits.test
    assert (test.spec, test.num_classes, test.class_names[3]) == ("digits", 10, "3")
    assert (split.data, split.spec, split.num_classes) == (None, "", 10)
    assert test.data is digits
    other = replace(digits, train=digits.train.numbered(5))
    assert other.exit.data is other
    assert digits.exit.data is digits
    assert torch.equal(other.exit.data.train.labels, torch.arange(5))


def test_sequences_say_their_timesteps(digits: DataSplits) -> None:
    black = replace(digits.preprocessing, mean=(0.0,), std=(1.0,))
    spikes = digits.with_preprocessing(black).with_encoding(PoissonEncoding(timesteps=3)).exit
    assert (digits.exit.timesteps, digits.exit.is_sequence) == (None, False)
    assert (spikes.timesteps, spikes.is_sequence) == (3, True)
    batch = next(spikes.batches(5))
    assert (len(batch), batch.timesteps) == (5, 3)
    assert torch.equal(spikes.batch(9)[slice(0, 5)].inputs, batch.inputs)
    assert spikes.fingerprint == digits.exit.fingerprint


def test_other_preprocessing_changes_inputs_and_not_the_data(digits: DataSplits) -> None:
    larger = digits.with_preprocessing(replace(digits.preprocessing, height=12, width=12))
    assert larger.preprocessing.height == 12
    for name in ("train", "calibration", "exit", "test"):
        assert getattr(larger, name).images(limit=1).shape == (1, 1, 12, 12)
    assert larger.manifest() == digits.manifest()
    assert digits.test.images(limit=1).shape == (1, 1, 8, 8)


def test_manifest_tells_which_data_these_are(digits: DataSplits) -> None:
    manifest = json.loads(json.dumps(digits.manifest()))
    assert manifest["spec"] == "digits"
    assert manifest["split_seed"] == 0
    assert manifest["sizes"] == {"train": 899, "calibration": 180, "exit": 359, "test": 359}
    assert manifest["fingerprints"]["exit"] == digits.exit.fingerprint
    assert manifest["fingerprints"].keys() == manifest["image_fingerprints"].keys() == manifest["sizes"].keys()
    assert manifest["content"] == "pixels"


def test_manifest_does_not_decode_a_folder_of_training_images(
    write_folder: Callable[[dict[str, int]], Path],
) -> None:
    splits = load_data(f"imagefolder:{write_folder({'cat': 10, 'dog': 10})}")
    for path in splits.train.files or []:
        path.write_text("no image")
    assert splits.manifest()["fingerprints"].keys() == {"calibration", "exit", "test"}
    assert splits.manifest()["content"] == "files"
