"""Every split is compared by content, before it is used, with whatever else the network has seen."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seenn
from converter import convert
from seenn.batch import Batch
from seenn.data import DataSplits, Split, check_split, check_splits, load_data
from seenn.data.numbers import Numbers
from seenn.data.overlap import refuse_overlap
from seenn.data.provenance import load_recorded_data
from seenn.data.remembered import among, remember
from seenn.data.source import ArrayImages, Labelled
from seenn.data.split import pixel_digests
from seenn.errors import DataError

RANDOM = np.random.default_rng(0).integers(0, 256, (400, 5, 5), dtype=np.uint8)


def write(path: Path, **changes: Any) -> str:
    arrays = {
        "x_train": RANDOM[:300],
        "y_train": np.arange(300) % 5,
        "x_test": RANDOM[300:],
        "y_test": np.arange(100) % 5,
    }
    np.savez(path, **(arrays | changes))
    return f"npz:{path}"


@pytest.fixture
def splits(tmp_path: Path) -> DataSplits:
    return load_data(write(tmp_path / "a.npz"))


@pytest.fixture
def manifest(splits: DataSplits) -> dict[str, Any]:
    return json.loads(json.dumps({"data": splits.manifest()}))


def lone(name: str, split: Split, rows: slice) -> Split:
    """A split that knows no siblings, of some images of another."""
    raw = torch.stack([split.raw(index) for index in range(len(split))])
    part = Labelled(ArrayImages(raw[rows]), split.labels[rows])
    return Split(name, part, torch.arange(len(part.labels)), split.preprocessing)


@pytest.mark.parametrize("use", ["calibration", "exit", "test"])
def test_the_same_data_is_as_good_as_it_was(manifest: dict[str, Any], splits: DataSplits, use: Any) -> None:
    check_splits(manifest, splits, use=use)
    check_splits({}, splits, use=use)
    check_split(manifest, lone("mine", getattr(splits, use), slice(None)), use=use)


def test_data_that_are_recorded_from_another_folder_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.npz")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    record = {"data": load_data("npz:a.npz").manifest()}
    monkeypatch.chdir("elsewhere")
    said = r"a\.npz: .*as seen from where it was made: run there, or say where it is \(--data npz:PATH\)"
    with pytest.raises(DataError, match=said):
        load_recorded_data(record, None)
    with pytest.raises(DataError, match=r"a\.npz") as named:
        load_recorded_data(record, None, spec="npz:a.npz")
    assert "where it was made" not in str(named.value)
    assert len(load_recorded_data(record, None, spec="npz:../a.npz").test) == 100


def test_shifted_labels_are_told_from_other_images(manifest: dict[str, Any], tmp_path: Path) -> None:
    spec = write(tmp_path / "a.npz", y_test=np.roll(np.arange(100) % 5, 1))
    message = "files have changed: the same images with other labels in test. Held-out"
    with pytest.raises(DataError, match=message):
        check_splits(manifest, load_data(spec), use="test")
    with pytest.raises(DataError, match=message):
        load_recorded_data(manifest, None)
    brighter = np.where(RANDOM[:300] < 255, RANDOM[:300] + 1, 255).astype(np.uint8)
    write(tmp_path / "a.npz", x_train=brighter)
    with pytest.raises(DataError, match=r"changed: other images in train, calibration, exit\. Held-out"):
        load_recorded_data(manifest, None)


def test_a_record_of_older_files_is_compared_too(manifest: dict[str, Any], tmp_path: Path) -> None:
    del manifest["data"]["image_fingerprints"], manifest["data"]["content"]
    write(tmp_path / "a.npz", y_test=np.roll(np.arange(100) % 5, 1))
    with pytest.raises(DataError, match=r"changed: other content in test\. Held-out"):
        load_recorded_data(manifest, None)


def test_training_images_as_a_test_split_are_refused(manifest: dict[str, Any], splits: DataSplits) -> None:
    with pytest.raises(DataError, match="the test split is the very data of this network's train split"):
        check_split(manifest, lone("test", splits.train, slice(None)), use="test")
    with pytest.raises(
        DataError, match=r"the test split of 100 images shares 100 with the train split of npz:.*/a\.npz"
    ):
        check_split(manifest, lone("test", splits.train, slice(100)), use="test")


def test_the_exit_split_without_one_image_is_no_test_split(manifest: dict[str, Any], splits: DataSplits) -> None:
    message = r"the test split of 39 images shares 39 with the exit split of npz:.*that the network was made with"
    with pytest.raises(DataError, match=message):
        check_split(manifest, lone("test", splits.exit, slice(1, None)), use="test")
    among = replace(splits, test=lone("test", splits.exit, slice(1, None)))
    with pytest.raises(DataError, match=r"shares 39 with the exit split of npz:.*figures made there would"):
        check_splits({}, among, use="test")


def test_a_split_for_another_use_is_refused_by_its_name(splits: DataSplits) -> None:
    for name in ("train", "calibration", "exit"):
        with pytest.raises(DataError, match=f"the {name} split has another use: take the test split here"):
            check_split({}, getattr(splits, name), use="test")
    with pytest.raises(DataError, match="the test split has another use: take the exit split here"):
        check_split({}, splits.test, use="exit")


def test_held_out_images_of_another_seed_are_refused(manifest: dict[str, Any], splits: DataSplits) -> None:
    other = load_data(splits.spec, split_seed=1)
    with pytest.raises(DataError, match=r"shares \d+ with the calibration split .* Leave --split-seed as recorded"):
        check_splits(manifest, other, use="exit")
    check_splits(manifest, other, use="test")  # of all seeds the same
    check_splits(manifest, other, use="calibration")


def test_a_network_is_not_made_anew_on_splits_that_hold_out_what_it_was_trained_on() -> None:
    manifest = {"data": load_data("digits").manifest()}
    with pytest.raises(
        DataError, match=r"the calibration split of 180 images shares \d+ with the train split of digits"
    ):
        check_splits(manifest, load_data("digits", split_seed=1), use="calibration")


def test_the_data_of_the_exit_policy_counts_too(manifest: dict[str, Any], splits: DataSplits, tmp_path: Path) -> None:
    more = np.random.default_rng(1).integers(0, 256, (300, 5, 5), dtype=np.uint8)
    more[250:] = RANDOM[300:350]  # half of the test images lie among those that exits were chosen on
    other = load_data(write(tmp_path / "b.npz", x_train=more, x_test=more[:1] + 1, y_test=np.array([0])))
    check_splits(manifest, other, use="calibration")
    check_splits(manifest, splits, use="test")
    manifest["exit"] = {"data": other.manifest()}
    with pytest.raises(
        DataError, match=r"shares 10 with the calibration split of npz:.*b\.npz.*, 40 with the exit split"
    ):
        check_splits(manifest, splits, use="test")


def test_prepared_numbers_are_not_compared_with_pictures(
    manifest: dict[str, Any], splits: DataSplits, caplog: pytest.LogCaptureFixture
) -> None:
    batch = splits.test.batch()
    assert batch.labels is not None
    numbers = Numbers(shape=tuple(batch.inputs.shape[1:]))
    prepared = Labelled(ArrayImages(batch.inputs), batch.labels)
    split = Split("test", prepared, torch.arange(len(batch)), numbers)
    check_split(manifest, split, use="test")
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "a.npz has raw pictures, and these are prepared numbers: give both as the same" in said


def test_the_same_data_under_another_name_is_compared_by_fingerprint(
    manifest: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.npz").rename(tmp_path / "b.npz")
    moved = load_data(f"npz:{tmp_path / 'b.npz'}")
    with caplog.at_level(logging.WARNING):
        check_splits(manifest, moved, use="test")
    assert "cannot compare the test split with the data that the network was made with" in caplog.text
    with pytest.raises(DataError, match="the test split is the very data of this network's exit split"):
        check_split(manifest, lone("test", moved.exit, slice(None)), use="test")


def test_one_picture_in_a_thousand_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    digits = load_data("digits")
    pixels = np.random.default_rng(2).integers(0, 256, (1000, 1, 8, 8), dtype=np.uint8)
    pixels[0] = digits.train.raw(0).numpy()
    part = Labelled(ArrayImages(torch.from_numpy(pixels)), torch.arange(1000) % 10)
    test = Split("test", part, torch.arange(1000), digits.preprocessing)
    with caplog.at_level(logging.WARNING):
        check_splits({}, replace(digits, test=test), use="test")
    assert "the test split of 1000 images shares 1 with the train split of digits; too few to matter" in caplog.text


def test_a_damaged_record_does_no_harm(splits: DataSplits) -> None:
    for data in (
        None,
        [],
        {"spec": 5},
        {"spec": "digits", "split_seed": -1, "frames": 0},
        {"spec": "digits", "split_seed": "x", "data_dir": 7, "fingerprints": [1]},
    ):
        check_splits({"data": data, "exit": 3}, splits, use="test")
        load_recorded_data({"data": data}, None)


WriteFolder = Callable[[dict[str, int]], Path]


@pytest.fixture
def folder(write_folder: WriteFolder) -> Path:
    return write_folder({"train/cat": 30, "train/dog": 30, "test/cat": 6, "test/dog": 6})


def test_files_of_the_training_part_are_found_in_the_test_part(folder: Path) -> None:
    manifest = {"data": load_data(f"imagefolder:{folder}").manifest()}
    check_splits(manifest, load_data(f"imagefolder:{folder}"), use="test")
    check_splits(manifest, load_data(f"imagefolder:{folder}"), use="exit")
    for index in range(3):
        shutil.copy(folder / "train" / "cat" / f"{index:03}.png", folder / "test" / "cat" / f"{index:03}.png")
    with pytest.raises(DataError, match="shares 3 with the train split of imagefolder:"):
        check_splits({}, load_data(f"imagefolder:{folder}"), use="test")
    with pytest.raises(DataError, match="other images in test"):
        load_recorded_data(manifest, None)


def test_a_file_that_vanished_is_named(folder: Path) -> None:
    splits = load_data(f"imagefolder:{folder}")
    gone = (splits.train.files or [])[7]
    gone.unlink()
    with pytest.raises(DataError, match=f"{gone}: cannot be opened: No such file or directory"):
        check_splits({}, splits, use="test")


def test_files_that_changed_their_class_are_told(folder: Path) -> None:
    manifest = {"data": load_data(f"imagefolder:{folder}").manifest()}
    (folder / "test" / "cat").rename(folder / "test" / "x")
    (folder / "test" / "dog").rename(folder / "test" / "cat")
    (folder / "test" / "x").rename(folder / "test" / "dog")
    with pytest.raises(DataError, match="the same images with other labels in test"):
        load_recorded_data(manifest, None)


def test_an_older_record_of_files_is_compared_by_pixels(folder: Path) -> None:
    splits = load_data(f"imagefolder:{folder}")
    names = ("calibration", "exit", "test")
    hashes = {name: getattr(splits, name).content_hash(decoded=True) for name in names}
    older = {"data": {"spec": splits.spec, "split_seed": 0, "fingerprints": hashes}}
    check_splits(older, splits, use="test")
    shutil.copy(folder / "train" / "cat" / "000.png", folder / "test" / "cat" / "000.png")
    with pytest.raises(DataError, match="other content in test"):
        load_recorded_data(older, None)


def test_files_are_compared_with_pixels_in_memory(folder: Path, tmp_path: Path) -> None:
    splits = load_data(f"imagefolder:{folder}")
    images = np.stack([splits.train.raw(index).numpy() for index in range(len(splits.train))])
    np.savez(tmp_path / "a.npz", images=images, labels=splits.train.labels.numpy())
    stored = load_data(f"npz:{tmp_path / 'a.npz'}")
    with pytest.raises(DataError, match=r"the exit split of 10 images shares 10 with the train split of imagefolder:"):
        check_splits({"data": splits.manifest()}, stored, use="exit")


@dataclass
class Many:
    """A split of many files, or of as many arrays: the first of one and of another are equal."""

    count: int
    in_memory: bool = False
    name: str = "train"
    spec: str = "files"

    def __len__(self) -> int:
        return self.count

    @property
    def files(self) -> list[Path] | None:
        return None if self.in_memory else [Path(str(number)) for number in range(self.count)]

    def digests(self, *, decoded: bool) -> torch.Tensor:
        return torch.arange(self.count) + (0 if decoded or self.in_memory else self.count)


@pytest.mark.parametrize("swapped", [False, True])
def test_more_files_than_20_000_are_not_decoded_to_be_compared(swapped: bool, caplog: pytest.LogCaptureFixture) -> None:
    def compare(files: int) -> None:
        pair: Any = (Many(files), Many(100, in_memory=True))
        split, other = pair if swapped else reversed(pair)
        refuse_overlap(split, [other], " that was made")

    for files in (101, 20_000):
        with pytest.raises(DataError, match="shares 100 with the train split of files that was made: figures"):
            compare(files)
    with caplog.at_level(logging.WARNING):
        compare(20_001)
    assert caplog.messages == [
        "the train split is not compared with the train split of files that was made: too many files to decode"
    ]


def test_of_more_files_than_2000_so_many_or_fewer_are_compared_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr("seenn.data.overlap.file_size", lambda path: 1)
    monkeypatch.setattr("seenn.data.overlap.file_digest", lambda path: read.append(str(path)) or str(path))
    for files, compared in ((2000, ""), (2001, r" \(of 1001 compared\)"), (4001, r" \(of 1334 compared\)")):
        split: Any = Many(files)
        with pytest.raises(DataError, match=rf"shares \d+ with the train split of files{compared}: figures"):
            refuse_overlap(split, [split])
    assert read[-1334:] == [str(number) for number in range(0, 4001, 3)]


def test_images_that_a_program_held_are_remembered_with_the_network(tmp_path: Path) -> None:
    images = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(120) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    for given in ((images[:60], labels[:60]), images[:60]):
        convert(model, given, timesteps=2, force=True).save(tmp_path / "snn.safetensors")
        snn = seenn.load(tmp_path / "snn.safetensors")
        with pytest.raises(
            DataError, match=r"the exit split shares \d\d of 60 images with .* network's calibration took"
        ):
            snn.calibrate_exit((images[:60], labels[:60]), threshold=0.5)
        snn = snn.calibrate_exit((images[60:90], labels[60:90]), threshold=0.5)
        with pytest.raises(DataError, match=r"test split shares 30 of 60 images with .* this network's exit took"):
            snn.evaluate((images[60:], labels[60:]))
        assert snn.evaluate((images[90:], labels[90:])).samples == 30


def test_of_many_images_a_sample_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seenn.data.remembered.MOST", 100)
    digests = torch.randint(-(2**62), 2**62, (5000,), generator=torch.Generator().manual_seed(0))
    known = remember(digests[:4000])
    found = among(digests[3000:], known)[1]
    assert 0.35 < found.double().mean() < 0.65  # half of them
    assert not among(digests[4000:], known)[1].any()
    assert all(len(among(digests, damaged)[0]) == 0 for damaged in ("no base64", 5, ""))


def test_samples_of_any_kind_are_remembered() -> None:
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    snn = convert(model, Batch(images), timesteps=2, force=True)
    with pytest.raises(DataError, match="of 20 images with those that this network's calibration took"):
        snn.evaluate((images, torch.arange(20) % 3))
    assert torch.equal(pixel_digests(images.clone().requires_grad_()), pixel_digests(images))
    assert len(pixel_digests(images.bfloat16()).unique()) == 20
    assert len(pixel_digests(images[:0])) == 0


def test_a_few_images_that_were_seen_are_said_and_files_beyond_counting_are_not_compared(
    splits: DataSplits, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = {"digests": {"calibration": remember(splits.test.digests()[:1])}}
    with pytest.raises(DataError, match=r"the test split shares 1 of 100 images with those"):
        check_split(manifest, splits.test, use="test")
    monkeypatch.setattr("seenn.data.overlap.TOLERATED", 0.05)
    check_split(manifest, splits.test, use="test")
    assert "shares 1 of 100 images with those that this network's calibration took; too few to matter" in caplog.text
    monkeypatch.setattr("seenn.data.provenance.DECODED_FILES", -1)
    check_split(manifest, splits.test, use="test")
    assert "not compared with those that this network's calibration took: too many files" in caplog.text


def test_rows_that_repeat_by_nature_are_no_overlap(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    rows = (torch.rand(400, 4) > 0.5).float()
    labels = rows[:, 0].long()
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    snn = convert(net, (rows[:300], labels[:300]), timesteps=4, force=True)
    assert snn.evaluate((rows[300:], labels[300:])).samples == 100
    assert "or such as recur in the split itself" in caplog.text
    distinct = torch.randn(400, 4)
    snn = convert(net, (distinct[:300], labels[:300]), timesteps=4, force=True)
    with pytest.raises(DataError, match="figures made there would flatter the network"):
        snn.evaluate((distinct[200:300], labels[200:300]))
