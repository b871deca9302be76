"""Folders of image files: layouts, order, lazy decoding, and what is refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from seenn.data import Preprocessing, load_data
from seenn.data.imagenet import IMAGENET
from seenn.data.picture import read_picture
from seenn.errors import DataError

WriteFolder = Callable[[dict[str, int]], Path]
SMALL = Preprocessing(channels=3, height=4, width=4, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_train_and_test_folders_are_read_in_file_order(write_folder: WriteFolder, test_name: str) -> None:
    path = write_folder({"train/cat": 12, "train/dog": 6, "train/emu": 6, f"{test_name}/cat": 2, f"{test_name}/emu": 1})
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert splits.class_names == ("cat", "dog", "emu")
    assert splits.train.labels.tolist() == [0] * 10 + [1] * 5 + [2] * 5
    assert sorted(torch.cat([splits.calibration.labels, splits.exit.labels]).tolist()) == [0, 0, 1, 2]
    assert splits.test.labels.tolist() == [0, 0, 2]
    assert torch.equal(splits.test.raw(2), read_picture(path / test_name / "emu" / "000.png"))
    assert torch.equal(splits.test.images()[1:2], SMALL.prepare(path / test_name / "cat" / "001.png"))


def test_single_folder_of_classes_is_dealt_to_four_splits(write_folder: WriteFolder) -> None:
    splits = load_data(f"imagefolder:{write_folder({'cat': 20, 'dog': 10})}")
    assert [len(s) for s in (splits.train, splits.calibration, splits.exit, splits.test)] == [15, 3, 6, 6]
    assert splits.train.labels.bincount().tolist() == [10, 5]
    assert splits.test.images(limit=1).shape == (1, 3, 6, 8)
    assert splits.preprocessing.mean == (0.485, 0.456, 0.406)
    assert splits.guess == "the data set's own"


@pytest.mark.parametrize("other", [(6, 9), (300, 300)])
def test_pictures_of_several_sizes_or_large_ones_are_taken_at_224_pixels(
    write_folder: WriteFolder, other: tuple[int, int]
) -> None:
    path = write_folder({"cat": 20, "dog": 10})
    for file in (path / "dog").iterdir():
        Image.new("RGB", other).save(file)
    if other == (300, 300):
        for file in (path / "cat").iterdir():
            Image.new("RGB", other).save(file)
    assert load_data(f"imagefolder:{path}").preprocessing == IMAGENET


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "Valid"),
        ("training", "validation"),
        ("train", "Test"),
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("Train images", "test-images"),
        ("train2017", "val2017"),
        ("trainset", "testset"),
        ("trn", "tst"),
        ("tr", "te"),
        ("TrainImages", "dev"),
    ],
)
def test_parts_are_known_by_their_usual_names(write_folder: WriteFolder, train: str, test: str) -> None:
    path = write_folder({f"{train}/cat": 12, f"{train}/dog": 6, f"{test}/cat": 2, f"{test}/dog": 1})
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert splits.class_names == ("cat", "dog")
    assert len(splits.test) == 3


def test_names_with_more_in_them_are_classes_and_folders_that_look_like_parts_are_said(
    write_folder: WriteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({"test_tube/far": 6, "test_tube/near": 6, "train_station/far": 6, "train_station/near": 6})
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names == ("test_tube", "train_station")
    assert "test_tube, train_station hold the same folders, and are taken for classes; parts are" in caplog.text


def test_a_class_that_is_called_as_parts_are_is_told_from_one(write_folder: WriteFolder) -> None:
    path = write_folder({f"{name}/{camera}": 4 for name in ("bus", "car", "train") for camera in ("one", "two")})
    with pytest.raises(
        DataError, match=r"train is called as a part .*, and holds the same folders as bus, car: rename"
    ):
        load_data(f"imagefolder:{path}", preprocessing=SMALL)


def test_numbers_that_the_alphabet_puts_otherwise_are_said(
    write_folder: WriteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({str(number): 4 for number in range(11)})
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names[:3] == ("0", "1", "10")
    assert "numbered by the alphabet, as torchvision does: 0, 1, 10, 2, 3, 4, 5, 6 and 3 more; for" in caplog.text
    caplog.clear()
    path.joinpath("10").rename(path / "99")
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names[-1] == "99"
    assert "alphabet" not in caplog.text


def test_two_letters_beside_others_are_classes(write_folder: WriteFolder) -> None:
    path = write_folder({f"{language}/{who}": 4 for language in ("en", "te", "tr") for who in ("one", "two")})
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names == ("en", "te", "tr")


def test_classes_with_the_same_folders_in_them_are_no_alarm(
    write_folder: WriteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({f"{name}/{place}": 6 for name in ("cat", "dog") for place in ("indoors", "outdoors")})
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names == ("cat", "dog")
    assert caplog.text == ""
    path.joinpath("cat").rename(path / "fold1")
    path.joinpath("dog").rename(path / "fold2")
    load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert "fold1, fold2 hold the same folders, and are taken for classes" in caplog.text


def test_files_of_other_endings_and_pictures_beside_the_classes_are_said(
    write_folder: WriteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({"cat": 12, "dog": 12})
    for name in ("0.png", "1.png"):
        Image.new("RGB", (4, 4)).save(path / name)
    for number, name in enumerate(["a.avif", "b.avif", "c.tga", "LICENSE"]):
        (path / ("cat", "dog")[number % 2] / name).write_bytes(b"x")
    (path / "cat" / ".hidden").write_bytes(b"x")
    load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert "4 files left out, by their endings: .avif (2), " in caplog.text
    assert ".tga (1)" in caplog.text
    assert "no ending (1)" in caplog.text
    assert "2 pictures beside the folders of classes are left out" in caplog.text
    assert len(caplog.records) == 2


@pytest.mark.parametrize("ending", ["jfif", "jpe", "JPG"])
def test_endings_of_jpeg_are_all_read(write_folder: WriteFolder, ending: str) -> None:
    path = write_folder({"cat": 12, "dog": 12})
    for number, file in enumerate(sorted(path.rglob("*.png"))):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(file, format="JPEG")
        file.rename(file.with_suffix(f".{ending}"))
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).test.images().shape[1:] == (3, 4, 4)


@pytest.mark.parametrize("part", ["train", "val", "Testing"])
def test_one_part_alone_is_dealt_to_four_splits(
    write_folder: WriteFolder, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({f"{part}/cat": 20, f"{part}/dog": 10})
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert [len(s) for s in (splits.train, splits.calibration, splits.exit, splits.test)] == [15, 3, 6, 6]
    assert f"has {part} alone; all four splits are dealt from it" in caplog.text


def test_a_class_called_train_is_a_class(write_folder: WriteFolder) -> None:
    assert load_data(f"imagefolder:{write_folder({'bus': 10, 'train': 10})}").class_names == ("bus", "train")


def test_folders_beside_the_parts_are_left_out_with_a_warning(
    write_folder: WriteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({"train/a": 12, "train/b": 12, "test/a": 2, "test/b": 2, "masks/a": 3})
    assert load_data(f"imagefolder:{path}").class_names == ("a", "b")
    assert "these folders are left out: masks" in caplog.text


def test_what_nobody_put_there_is_left_out_at_any_depth(write_folder: WriteFolder) -> None:
    path = write_folder(
        {
            "cat": 20,
            "dog": 20,
            "cat/.ipynb_checkpoints": 4,
            "dog/indoors/__MACOSX": 3,
            ".git": 2,
            "__MACOSX/cat": 2,
        }
    )
    (path / "cat" / "._000.png").write_bytes(b"no image")
    splits = load_data(f"imagefolder:{path}")
    assert splits.class_names == ("cat", "dog")
    assert sum(len(s) for s in (splits.train, splits.calibration, splits.exit, splits.test)) == 40


def test_files_of_one_folder_below_the_class_stay_together(write_folder: WriteFolder) -> None:
    path = write_folder({f"{name}/patient{k}": 4 for name in ("ill", "well") for k in range(20)})
    splits = load_data(f"imagefolder:{path}", group_by="1")
    patients = [
        {file.parent for file in s.files or ()} for s in (splits.train, splits.calibration, splits.exit, splits.test)
    ]
    assert sum(map(len, patients)) == 40
    assert splits.manifest()["group_by"] == "1"
    for level, message in (("2", "in no folder of level 2 below its class"), ("who", "be a level .* got 'who'")):
        with pytest.raises(DataError, match=message):
            load_data(f"imagefolder:{path}", group_by=level)


def test_files_are_found_in_subfolders_and_others_are_left_alone(write_folder: WriteFolder) -> None:
    path = write_folder({"cat/indoors": 6, "cat/outdoors": 4, "dog": 10})
    for name in ("notes.txt", ".hidden.png"):
        (path / "dog" / name).write_text("no image")
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert sum(len(s.images()) for s in (splits.train, splits.calibration, splits.exit, splits.test)) == 20


def test_several_unreadable_images_are_counted(write_folder: WriteFolder) -> None:
    path = write_folder({"train/cat": 12, "train/dog": 12, "test/cat": 6, "test/dog": 6})
    for number in (1, 3, 4):
        (path / "test" / "dog" / f"00{number}.png").write_bytes(b"\x89PNG")
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    message = r"dog/001\.png: .*; likewise 2 others of 12 files of the test split: .*dog/003\.png, .*dog/004\.png$"
    with pytest.raises(DataError, match=message):
        splits.test.images()


def test_unreadable_image_is_named_when_it_is_decoded(write_folder: WriteFolder) -> None:
    path = write_folder({"train/cat": 12, "train/dog": 12, "test/cat": 1, "test/dog": 1})
    (path / "test" / "dog" / "000.png").write_bytes(b"\x89PNG")
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert splits.test.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"test/dog/000\.png: is damaged"):
        splits.test.images()


def test_val_is_left_out_with_a_warning_where_there_is_a_test_folder(
    write_folder: WriteFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_folder({"train/a": 12, "train/b": 12, "val/a": 3, "test/a": 1, "test/b": 1})
    with caplog.at_level(logging.WARNING):
        assert len(load_data(f"imagefolder:{path}").test) == 2
    assert "test/ is taken, val/ is left out" in caplog.text


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"val/a": 6, "val/b": 6, "test/a": 6, "test/b": 6}, "has test and val but no train"),
        ({"train/a": 6, "Training/a": 6}, "Training and train both mean train: rename"),
        ({"archive/train/a": 6, "archive/train/b": 6}, "only the folder archive, .* name imagefolder:.*archive"),
        ({"train/a": 6, "train/b": 6, "val/a": 1, "val/c": 1, "val/d": 1}, "does not have: c, d"),
        ({"train/a": 6, "train/b": 0, "train/c": 0, "val/a": 1}, r"without an image \(.*\.jpg.*\): b, c"),
        ({"train": 8, "test": 8}, "test/ and train/ hold pictures and no class folders: .* manifest:TABLE"),
        ({"train/a": 6, "train/b": 6, "val/a": 1, **{f"val/c{k:02}": 1 for k in range(20)}}, "c07 and 12 more; remove"),
        ({"": 3}, "has no subfolders; expected one for each class"),
    ],
)
def test_folder_of_another_shape_is_refused(write_folder: WriteFolder, folders: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(f"imagefolder:{write_folder(folders)}")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such folder; expected imagefolder:PATH"):
        load_data(f"imagefolder:{tmp_path / 'gone'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
@pytest.mark.parametrize("locked", ["", "cat/indoors"])
def test_folder_that_cannot_be_listed_is_refused_rather_than_passed_over(
    write_folder: WriteFolder, locked: str
) -> None:
    path = write_folder({"cat": 8, "cat/indoors": 4, "dog": 8})
    (path / locked).chmod(0)
    try:
        with pytest.raises(DataError, match=r"cannot be opened: .*Permission denied.*set"):
            load_data(f"imagefolder:{path}")
    finally:
        (path / locked).chmod(0o700)


def test_parts_in_every_class_are_those_of_the_data(write_folder: WriteFolder) -> None:
    counts = {f"{name}/{part}": count for name in ("cat", "dog") for part, count in (("Train", 12), ("test", 2))}
    path = write_folder(counts)
    splits = load_data(f"imagefolder:{path}", preprocessing=SMALL)
    assert splits.class_names == ("cat", "dog")
    assert [file.parent.name for file in splits.test.files or ()] == ["test"] * 4
    assert splits.test.labels.tolist() == [0, 0, 1, 1]
    for split in (splits.train, splits.calibration, splits.exit):
        assert {file.parent.name for file in split.files or ()} == {"Train"}


def test_groups_are_counted_below_such_parts(write_folder: WriteFolder) -> None:
    counts = {f"{name}/train/p{n}": 2 for name in ("cat", "dog") for n in range(12)}
    path = write_folder({**counts, "cat/test/p0": 2, "dog/test/q1": 2})
    with pytest.raises(DataError, match="1 groups are in train and in test, as 'cat/p0'"):
        load_data(f"imagefolder:{path}", preprocessing=SMALL, group_by="1")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"cat/train": 6, "cat/test": 2, "dog": 8},
            "the class cat has test, train in it, and dog pictures alone; expected the same parts in every class",
        ),
        (
            {"cat/train": 6, "cat/test": 2, "dog/train": 6, "dog/test": 2, "dog/extra": 2},
            "the class cat has test, train in it, and dog extra, test, train; expected the same parts",
        ),
        (
            {f"{name}/{part}": 2 for name in ("cat", "dog") for part in ("train", "test", "more")},
            "the class cat has more, test, train in it; expected the same parts in every class, and nothing beside",
        ),
        (
            {f"site{n}/{part}/{name}": 6 for n in (1, 2) for part in ("train", "test") for name in ("cat", "dog")},
            "site1, site2 each have test, train with the same folders in them, cat, dog: they look like several data "
            "sets; name one of them, imagefolder:.*site1",
        ),
        (
            {f"{name}/{kind}": 6 for name in ("COVID", "Normal") for kind in ("images", "masks")},
            r"COVID: masks has pictures beside images, and they would be taken for images of a class: move such",
        ),
        (
            {f"{part}/{name}/{kind}": 6 for part in ("train", "test") for name in "ab" for kind in ("img", "GT_masks")},
            r"train.a: GT_masks has pictures beside img, and they would be taken for images of a class",
        ),
        ({"images/a": 6, "masks/a": 6}, "set: masks has pictures beside images"),
        (
            {f"{name}/p{n}/{kind}": 1 for name in "ab" for n in range(9) for kind in ("scans", "masks")},
            r"a.p0: masks has pictures beside scans, and they would be taken",
        ),
    ],
)
def test_parts_in_some_classes_and_masks_in_classes_are_refused(
    write_folder: WriteFolder, counts: dict[str, int], message: str
) -> None:
    path = write_folder(counts)
    with pytest.raises(DataError, match=message):
        load_data(f"imagefolder:{path}", preprocessing=SMALL)


def test_files_that_are_called_masks_of_others_beside_them_are_refused(write_folder: WriteFolder) -> None:
    path = write_folder({"benign": 12, "normal": 12})
    Image.new("L", (6, 8)).save(path / "benign" / "mask.png")  # of nothing that is there
    Image.new("L", (6, 8)).save(path / "benign" / "other_mask.png")
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names == ("benign", "normal")
    for name in ("003_mask", "004-GT", "005_mask_1"):
        Image.new("L", (6, 8)).save(path / "benign" / f"{name}.png")
    with pytest.raises(
        DataError, match=r"benign: 3 pictures are called masks of others, 003_mask beside 003, and they"
    ):
        load_data(f"imagefolder:{path}", preprocessing=SMALL)


def test_folders_of_masks_without_images_beside_them_are_classes(write_folder: WriteFolder) -> None:
    path = write_folder({"mask/indoors": 6, "mask/outdoors": 6, "no_mask": 12})
    assert load_data(f"imagefolder:{path}", preprocessing=SMALL).class_names == ("mask", "no_mask")
