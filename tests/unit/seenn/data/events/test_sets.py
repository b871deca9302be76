from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import recordings
import torch

from seenn.data import load_data
from seenn.data.events.read import read_aedat4, read_bin, read_npy
from seenn.errors import DataError

EVENTS = [(3, 4, 70_000, 1), (0, 0, 80_000, 0), (33, 33, 100_000, 1), (5, 33, 120_000, 0)]


@pytest.mark.parametrize(
    ("write", "read"),
    [(recordings.write_bin, read_bin), (recordings.write_npy, read_npy), (recordings.write_aedat4, read_aedat4)],
    ids=["bin", "npy", "aedat4"],
)
def test_a_recording_is_read_as_it_was_written(write: object, read: object, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    write(path.with_suffix(".npy"), EVENTS)  # type: ignore[operator]
    found = read(path.with_suffix(".npy"))  # type: ignore[operator]
    rows = zip(found.x.tolist(), found.y.tolist(), found.t.tolist(), found.p.tolist(), strict=True)
    assert [tuple(map(int, row)) for row in rows] == EVENTS


def test_the_clock_of_nmnist_may_go_round(tmp_path: Path) -> None:
    recordings.write_bin(tmp_path / "a.bin", EVENTS, overflow_at=2)
    found = read_bin(tmp_path / "a.bin")
    assert found.t.tolist() == [70_000, 80_000, 100_000 + 8192, 120_000 + 8192]


def _nmnist(folder: Path, per_class: int = 4) -> None:
    generator = np.random.default_rng(0)
    for part in ("Train", "Test"):
        for label in range(10):
            for index in range(per_class):
                events = [
                    (int(x), 3 * label + int(y), int(t), int(p))
                    for x, y, t, p in generator.integers(0, (34, 4, 9000, 2), (30, 4))
                ]
                recordings.write_bin(folder / part / str(label) / f"{index:05}.bin", events)


@pytest.mark.parametrize("below", ["", "NMNIST"])
def test_a_folder_of_recordings_becomes_four_splits_of_sequences(below: str, tmp_path: Path) -> None:
    _nmnist(tmp_path / below)
    splits = load_data("n-mnist", data_dir=str(tmp_path), frames=5)
    assert (splits.frames, splits.num_classes, len(splits.test)) == (5, 10, 40)
    batch = next(splits.test.batches(3))
    sequence, labels = batch.inputs, batch.labels
    assert sequence.shape == (5, 3, 2, 34, 34)
    assert labels.tolist() == [0, 0, 0]
    assert sequence.sum((0, 2, 3, 4)).tolist() == pytest.approx([30.0] * 3)
    assert torch.equal(splits.test.images(limit=3), sequence)
    assert splits.test.raw(0).shape == (1, 34, 34)
    assert splits.manifest()["frames"] == 5
    assert "train" not in splits.manifest()["fingerprints"]  # 40 or 60,000 files that would all be read
    with pytest.raises(DataError, match="n-mnist are events: they come as frames: leave the encoding out"):
        splits.with_encoding(object())  # type: ignore[arg-type]


def test_gestures_and_dvs_images_are_found_in_their_layouts(tmp_path: Path) -> None:
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        for user in range(4):
            for label in range(11):
                recordings.write_npy(tmp_path / "g" / part / f"user{user:02}_led" / f"{label}.npy", EVENTS)
    splits = load_data("dvs-gesture", data_dir=str(tmp_path / "g"), frames=2)
    assert next(splits.test.batches(2)).inputs.shape == (2, 2, 2, 128, 128)
    for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"):
        for index in range(10):
            recordings.write_aedat4(tmp_path / "c" / name / f"cifar10_{name}_{index}.aedat4", EVENTS)
    splits = load_data("cifar10-dvs", data_dir=str(tmp_path / "c"))
    assert (splits.frames, splits.class_names[0]) == (4, "airplane")
    assert next(splits.exit.batches(1)).inputs.sum() == pytest.approx(4)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data 'n-mnist': give its folder as data_dir \(--data-dir\), with Train/"):
        load_data("n-mnist")
    with pytest.raises(DataError, match=r"no recordings of n-mnist; expected Train/\*\*/\*.bin and Test/\*\*/\*.bin"):
        load_data("n-mnist", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="data 'n-mnist' cannot be fetched: put its files into data_dir"):
        load_data("n-mnist", data_dir=str(tmp_path), download=True)
    recordings.write_bin(tmp_path / "Train" / "7" / "a.bin", EVENTS)
    with pytest.raises(DataError, match=r"Test: no files \*.bin; fetch n-mnist again"):
        load_data("n-mnist", data_dir=str(tmp_path))
    recordings.write_bin(tmp_path / "Test" / "seven" / "a.bin", EVENTS)
    with pytest.raises(DataError, match="seven say no class of n-mnist; expected 0, 1"):
        load_data("n-mnist", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="frames is 0, expected 1 or more"):
        load_data("digits", frames=0)


def test_damaged_recordings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"123456")
    with pytest.raises(DataError, match="6 bytes are no whole number of events of 5 bytes"):
        read_bin(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"holds float64 of shape \[3, 2\], expected numbers \[N, 4\]"):
        read_npy(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_npy(tmp_path / "b.npy")
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_aedat4(tmp_path / "a.aedat4")
    recordings.write_aedat4(tmp_path / "b.aedat4", [])
    with pytest.raises(DataError, match="there are no events in it"):
        read_aedat4(tmp_path / "b.aedat4")


def test_a_missing_reader_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(DataError, match=r"reading AEDAT files needs the package aedat: pip install 'seenn\[events\]'"):
        read_aedat4(tmp_path / "a.aedat4")
