"""npz files: names, axes, and everything that is refused rather than guessed."""

from __future__ import annotations

import io
import logging
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seenn.data import Numbers, load_data
from seenn.errors import DataError

WriteNpz = Callable[..., str]
LABELS = np.arange(60) % 3


def pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_one_part_is_dealt_to_four_splits(write_npz: WriteNpz) -> None:
    splits = load_data(write_npz())
    assert [len(s) for s in (splits.train, splits.calibration, splits.exit, splits.test)] == [30, 6, 12, 12]
    assert splits.class_names == ("0", "1", "2")
    assert splits.preprocessing.channels == 3


def test_labels_may_be_names(write_npz: WriteNpz) -> None:
    names = np.array(["eel", "cat", "dog"])
    parts = {"x_train": pixels(60, 5, 7), "y_train": names[LABELS], "x_test": pixels(3, 5, 7, seed=1)}
    splits = load_data(write_npz(**parts, y_test=names))
    assert splits.class_names == ("cat", "dog", "eel")
    assert splits.test.labels.tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="test labels that no training image has: owl"):
        load_data(write_npz(**parts, y_test=np.array(["cat", "owl", "eel"])))


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
def test_own_test_part_is_kept_in_file_order(write_npz: WriteNpz, names: tuple[str, ...]) -> None:
    arrays = (pixels(60, 5, 7), LABELS[:, None], pixels(9, 5, 7, seed=1), np.arange(9) % 3)
    splits = load_data(write_npz(**dict(zip(names, arrays, strict=True))))
    assert splits.train.labels.tolist() == LABELS[:50].tolist()
    assert torch.equal(splits.test.raw(8), torch.from_numpy(arrays[2][8:]))


@pytest.mark.parametrize(
    "axes", [lambda images: images, lambda images: images.transpose(0, 2, 3, 1)], ids=["NCHW", "NHWC"]
)
def test_axis_of_the_channels_is_derived(write_npz: WriteNpz, axes: Callable[..., Any]) -> None:
    images = pixels(60, 3, 5, 7)
    splits = load_data(write_npz(images=axes(images), labels=LABELS))
    stored = {image.tobytes() for image in images}
    assert {splits.train.raw(index).numpy().tobytes() for index in range(len(splits.train))} < stored


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60, 3, 8, 3), "both axis 1 and axis 3 could be the channels, and seenn does not guess"),
        ((60, 4, 8, 9), "neither axis 1 nor axis 3 could be the channels"),
        ((60, 4, 4, 4), "neither axis 1 nor axis 3 could be the channels"),
        ((60, 2, 2, 8, 8), r"images have shape \[60, 2, 2, 8, 8\], expected \[N, C, H, W\]"),
        ((60, 0, 8), r"images have shape \[60, 1, 0, 8\], expected \[N, C, H, W\]"),
        ((0, 8, 8), "0 images but 60 labels"),
        ((59, 8, 8), "59 images but 60 labels; expected one label each"),
    ],
)
def test_shape_that_does_not_say_what_it_is(write_npz: WriteNpz, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.npz: images.*{message}"):
        load_data(write_npz(images=pixels(*shape), labels=LABELS))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16])
def test_integers_are_pixels_as_long_as_they_can_be(write_npz: WriteNpz, dtype: type) -> None:
    images = pixels(60, 5, 7).astype(dtype)
    assert load_data(write_npz(images=images, labels=LABELS)).train.has_pictures
    images[0, 0, 0] = 256
    with pytest.raises(DataError, match=f"images are {np.dtype(dtype)}, expected uint8 .*scale them yourself"):
        load_data(write_npz(images=images, labels=LABELS))


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((60, 9), (9,)),  # a table
        ((60, 2, 50), (2, 50)),  # signals
        ((60, 3, 8, 8), (3, 8, 8)),
        ((60, 8, 8, 3), (3, 8, 8)),
        ((60, 13, 8, 8), (13, 8, 8)),
        ((60, 8, 8, 13), (13, 8, 8)),
        ((60, 2, 4, 5, 6), (2, 4, 5, 6)),  # volumes
    ],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_any_shape_are_taken_as_they_are(
    write_npz: WriteNpz, stored: tuple[int, ...], shape: tuple[int, ...], dtype: type
) -> None:
    values = np.random.default_rng(0).normal(size=stored).astype(dtype)
    splits = load_data(write_npz(X=values, y=LABELS))
    assert splits.preprocessing == Numbers(shape=shape)
    assert splits.guess == "numbers as they are"
    assert splits.train.picture is None
    batch = splits.train.batch(limit=5)
    assert batch.inputs.shape == (5, *shape)
    assert batch.inputs.dtype == torch.float32
    rows = {row.tobytes() for row in values.astype(np.float32).reshape(60, -1)}
    assert splits.train.raw(0).numel() == values[0].size
    assert len(stored) == 4 or splits.train.raw(0).numpy().tobytes() in rows


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_may_be_names_as_text_or_bytes(write_npz: WriteNpz, kind: str) -> None:
    names = np.array(["gnu", "äxl", "emu"])[LABELS]
    labels = np.char.encode(names, "utf-8") if kind == "S" else names
    splits = load_data(write_npz(images=pixels(60, 3, 5, 7), labels=labels))
    assert splits.class_names == ("emu", "gnu", "äxl")
    assert splits.train.labels.bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize("kind", ["U", "S"])
def test_numbers_that_are_written_as_text_keep_their_order(write_npz: WriteNpz, kind: str) -> None:
    classes = np.arange(60) % 12
    splits = load_data(write_npz(images=pixels(60, 3, 5, 7), labels=classes.astype(kind)))
    assert splits.class_names == tuple(map(str, range(12)))
    assert load_data(write_npz(images=pixels(60, 3, 5, 7), labels=classes)).class_names == splits.class_names
    years = (2019 + classes).astype(kind)  # of which the alphabet has the same order
    assert load_data(write_npz(images=pixels(60, 3, 5, 7), labels=years)).class_names[0] == "2019"
    with pytest.raises(DataError, match="labels are 12 numbers written as text, from 1 to 12 and not 0 to K-1"):
        load_data(write_npz(images=pixels(60, 3, 5, 7), labels=(classes + 1).astype(kind)))


def test_whole_numbers_in_a_table_are_numbers(write_npz: WriteNpz) -> None:
    table = np.arange(300).reshape(60, 5)
    assert load_data(write_npz(X=table, y=LABELS)).train.raw(0).dtype == torch.float32


def test_numbers_that_are_none_are_refused(write_npz: WriteNpz) -> None:
    values = np.ones((60, 2, 50))
    values[3, 1, 7] = np.nan
    with pytest.raises(DataError, match="1 numbers are NaN or infinite: leave those samples out"):
        load_data(write_npz(X=values, y=LABELS))


def test_pixels_of_any_number_of_channels_are_found(write_npz: WriteNpz) -> None:
    for shape in ((60, 6, 8, 8), (60, 8, 8, 6)):
        assert load_data(write_npz(images=pixels(*shape), labels=LABELS)).preprocessing.shape == (6, 8, 8)


def test_a_table_and_its_copy_with_one_number_changed_have_other_fingerprints(write_npz: WriteNpz) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4))
    before = load_data(write_npz(X=values, y=LABELS)).manifest()["fingerprints"]
    assert load_data(write_npz(X=values.copy(), y=LABELS)).manifest()["fingerprints"] == before
    values[0, 0] += 1e-3
    assert load_data(write_npz(X=values, y=LABELS)).manifest()["fingerprints"] != before


@pytest.mark.parametrize(
    "names",
    [("X_train", "y_train", "X_test", "y_test"), ("images_training", "labels_training", "images_val", "labels_val")],
)
def test_parts_have_their_usual_names_on_either_side(write_npz: WriteNpz, names: tuple[str, ...]) -> None:
    arrays = (pixels(60, 5, 7), LABELS, pixels(9, 5, 7, seed=1), np.arange(9) % 3)
    assert len(load_data(write_npz(**dict(zip(names, arrays, strict=True)))).test) == 9


def test_an_array_keeps_samples_together(write_npz: WriteNpz) -> None:
    who = np.array([f"p{k // 3}" for k in range(60)])
    splits = load_data(write_npz(images=pixels(60, 5, 7), labels=np.arange(60) // 3 % 3, who=who), group_by="who")
    parts = (splits.train, splits.calibration, splits.exit, splits.test)
    assert sum(len(s) for s in parts) == 60
    found = [part.groups or [] for part in parts]
    assert [len(set(groups)) for groups in found] == [len(part) // 3 for part in parts]
    assert len({group for groups in found for group in groups}) == 20
    assert load_data(write_npz(images=pixels(60, 5, 7), labels=LABELS)).train.groups is None
    with pytest.raises(DataError, match="has no array patient of the images to group by"):
        load_data(write_npz(images=pixels(60, 5, 7), labels=LABELS, who=who), group_by="patient")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(60, np.nan), "60 labels are NaN or infinite"),
        (np.full((60, 2), 3), r"labels are integers \[60, 2\] other than 0 and 1"),
        (np.full(60, b"\xff"), "labels are bytes that are no text in UTF-8: store names, or numbers"),
        (LABELS - 1, "20 labels are out of range, the first at index 0 is -1; expected 0 and up"),
        (
            LABELS.astype(np.uint64) + 2**63,
            "60 labels are out of range, the first at index 0 is 9223372036854775808",
        ),
        (LABELS + 1, "labels go up to 3 but only 3 of these classes have a training image"),
        (LABELS * 10**12, "labels go up to 2000000000000 but only 3 of these classes"),
    ],
)
def test_labels_that_are_not_classes_are_refused(write_npz: WriteNpz, labels: NDArray[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(write_npz(images=pixels(60, 5, 7), labels=labels))


def test_empty_arrays_are_refused(write_npz: WriteNpz) -> None:
    with pytest.raises(DataError, match="images: holds no images"):
        load_data(write_npz(images=pixels(0, 5, 7), labels=LABELS[:0]))


def test_test_class_that_train_does_not_have_is_refused(write_npz: WriteNpz) -> None:
    train = {"x_train": pixels(60, 5, 7), "y_train": LABELS}
    with pytest.raises(
        DataError, match="x_test: 1 labels are out of range, the first at index 1 is 3; expected 0 to 2"
    ):
        load_data(write_npz(**train, x_test=pixels(2, 5, 7), y_test=np.array([0, 3])))


def test_train_and_test_images_of_different_sizes_are_refused(write_npz: WriteNpz) -> None:
    train = {"x_train": pixels(60, 5, 7), "y_train": LABELS}
    with pytest.raises(DataError, match=r"differ in shape \[C, H, W\]: \[1, 5, 7\] and \[1, 7, 5\]"):
        load_data(write_npz(**train, x_test=pixels(3, 7, 5), y_test=LABELS[:3]))


def test_arrays_of_other_names_are_refused_with_the_names_expected(write_npz: WriteNpz) -> None:
    with pytest.raises(DataError, match=r"has the arrays pics, target: expected \(images, labels\)"):
        load_data(write_npz(pics=pixels(60, 5, 7), target=LABELS))


def test_two_layouts_in_one_file_are_ambiguous(write_npz: WriteNpz) -> None:
    both = dict.fromkeys(("images", "x_train", "x_test"), pixels(60, 5, 7))
    with pytest.raises(DataError, match="more than one of the layouts"):
        load_data(write_npz(**both, **dict.fromkeys(("labels", "y_train", "y_test"), LABELS)))


def test_further_arrays_are_left_out_with_a_warning(write_npz: WriteNpz, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_data(write_npz(images=pixels(60, 5, 7), labels=LABELS, val_images=pixels(1, 5, 7)))
    assert "arrays that are left out: val_images" in caplog.text


def test_objects_are_never_unpickled(write_npz: WriteNpz, tmp_path: Path) -> None:
    proof = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (proof,))

    spec = write_npz(images=np.array([Payload()], dtype=object), labels=LABELS)
    with pytest.raises(DataError, match="images holds Python objects, which would have to be unpickled"):
        load_data(spec)
    (tmp_path / "data.npz").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match=r"data\.npz: cannot be read \(BadZipFile"):
        load_data(spec)
    assert not proof.exists()
    spec = write_npz(images=np.zeros((3, 1, 4, 4)), labels=np.array(["a", "b", "a"], dtype=object))
    with pytest.raises(
        DataError, match=r"labels holds Python objects, .*; store numbers, and names by \.astype\(str\)"
    ):
        load_data(spec)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY\x01\x00", r"is one array \(\.npy\): store both, np\.savez\(FILE, images=…, labels=…\)"),
        (b"MATLAB 5.0 MAT-file", r"is of MATLAB: read it with scipy\.io\.loadmat"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5: read it with h5py"),
    ],
)
def test_files_of_other_kinds_are_told_apart_from_damaged_ones(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_data(f"npz:{tmp_path / 'other'}")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_header_that_declares_more_than_the_file_holds_is_refused_before_allocating(
    tmp_path: Path, compression: int
) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000)})
    with zipfile.ZipFile(tmp_path / "forged.npz", "w", compression) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(1000))
        archive.writestr("labels.npy", b"")
    with pytest.raises(DataError, match="images: the header declares 1,000,000,000,000,000 bytes of data"):
        load_data(f"npz:{tmp_path / 'forged.npz'}")


def test_file_cut_anywhere_is_refused(write_npz: WriteNpz, tmp_path: Path) -> None:
    spec = write_npz()
    whole = (tmp_path / "data.npz").read_bytes()
    for position in range(0, len(whole), 97):
        (tmp_path / "data.npz").write_bytes(whole[:position])
        with pytest.raises(DataError, match=r"data\.npz"):
            load_data(spec)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.npz: no such file; expected npz:PATH with the arrays"):
        load_data(f"npz:{tmp_path / 'gone.npz'}")
