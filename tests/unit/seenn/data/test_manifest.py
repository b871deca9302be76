"""Tables of image files: columns, labels, parts, groups, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seenn.data import DataSplits, load_data
from seenn.errors import DataError

Write = Callable[..., str]
NAMES = ("cat", "dog", "emu")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A manifest of 60 pictures with a row each, made by ``row(number, path)`` under a header."""
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for index in range(60):
        pixels = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")

    def make(header: str, row: Callable[[int, str], str], name: str = "list.csv") -> str:
        lines = [header, *(row(index, f"pictures/{index}.png") for index in range(60))]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return f"manifest:{tmp_path / name}"

    return make


def sizes(splits: DataSplits) -> list[int]:
    return [len(s) for s in (splits.train, splits.calibration, splits.exit, splits.test)]


@pytest.mark.parametrize(("mark", "name"), [(",", "list.csv"), ("\t", "list.tsv"), (";", "list.txt")])
def test_paths_count_from_the_manifest_and_classes_go_by_name(write: Write, mark: str, name: str) -> None:
    spec = write(f"Path{mark}Label", lambda index, path: f"{path}{mark}{NAMES[index % 3]}", name)
    splits = load_data(spec)
    assert splits.class_names == NAMES
    assert sizes(splits) == [30, 6, 12, 12]
    for file, label in zip(splits.train.files or (), splits.train.labels.tolist(), strict=True):
        assert int(file.stem) % 3 == label
    assert splits.test.batch(limit=2).inputs.shape == (2, 3, 6, 6)
    assert splits.test.fingerprint == load_data(spec).test.fingerprint


def test_numbers_from_0_are_classes_and_a_split_column_makes_parts(write: Write) -> None:
    def row(index: int, path: str) -> str:
        return f"{path},{index % 3},{'Training' if index < 50 else 'valid'}"

    splits = load_data(write("filename,class,split", row))
    assert splits.class_names == ("0", "1", "2")
    assert len(splits.test) == 10
    assert sorted(int(file.stem) for file in splits.test.files or ()) == list(range(50, 60))


@pytest.mark.parametrize("label", ["cat", "dog"])
def test_a_file_in_two_rows_is_refused(write: Write, tmp_path: Path, label: str) -> None:
    spec = write("path,label", lambda index, path: f"{path},{NAMES[index % 3]}")
    with (tmp_path / "list.csv").open("a") as file:
        file.write(f"\n./pictures/3.png,{label}")
    found = "cat" if label == "cat" else "cat and dog"
    with pytest.raises(DataError, match=rf"1 files stand in several rows, as .*3.png \({found}\) in rows 5 and 62"):
        load_data(spec)


def test_rows_of_one_group_stay_in_one_split(write: Write) -> None:
    spec = write("path,label,patient", lambda index, path: f"{path},{NAMES[index // 4 % 3]},p{index // 4}")
    splits = load_data(spec, group_by="patient")
    owners = [
        {int(f.stem) // 4 for f in s.files or ()} for s in (splits.train, splits.calibration, splits.exit, splits.test)
    ]
    assert sum(map(len, owners)) == 15
    assert splits.manifest()["group_by"] == "patient"


def test_groups_in_train_and_test_are_refused(write: Write) -> None:
    spec = write("path,label,split,who", lambda i, path: f"{path},{i % 2},{'test' if i > 49 else 'train'},w{i % 7}")
    with pytest.raises(DataError, match="7 groups are in train and in test, as 'w0': move them to one part"):
        load_data(spec, group_by="who")


def test_several_labels_and_values(write: Write) -> None:
    several = load_data(write("path,label", lambda i, path: f"{path},{'cat|dog' if i % 2 else 'emu'}"))
    assert several.class_names == ("cat", "dog", "emu")
    assert several.train.task == "multi-label"
    values = load_data(write("path,target", lambda i, path: f"{path},{i / 4}"))
    assert values.train.task == "regression"
    yes_or_no = load_data(write("path,target", lambda i, path: f"{path},{i % 2 / 1}"))
    assert (yes_or_no.train.task, yes_or_no.class_names) == ("classes", ("0", "1"))


def test_codes_are_names_and_labels_of_several_are_stripped(write: Write) -> None:
    for codes in (("1_0", "2_1", "3_2"), ("12e3", "45e1", "6e77")):
        found = load_data(write("file_name,label", lambda i, path, codes=codes: f"{path},{codes[i % 3]}"))
        assert (found.class_names, found.train.task) == (codes, "classes")
    several = load_data(write("path,label", lambda i, path: f"{path},{('cat | dog', 'cat', ' dog')[i % 3]}"))
    assert several.class_names == ("cat", "dog")
    numbers = load_data(write("path,label", lambda i, path: f"{path},{i % 12}|{(i + 1) % 12}"))
    assert numbers.class_names == tuple(map(str, range(12)))


@pytest.mark.parametrize("name", ["is_train", "usage"])
def test_a_column_that_may_say_the_parts_is_not_passed_over_in_silence(
    name: str, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("yes", "no") if name == "is_train" else ("train", "test")
    load_data(write(f"path,label,{name}", lambda i, path: f"{path},{i % 2},{words[i % 5 == 0]}"))
    assert f"the column {name} is left out, and all splits are dealt from all rows" in caplog.text
    caplog.clear()
    parts = load_data(write("path,label,Partition", lambda i, path: f"{path},{i % 2},{'test' if i > 49 else 'train'}"))
    assert len(parts.test) == 10
    assert "left out" not in caplog.text


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,label,label", "{path},cat,dog", "has several columns called label: rename all but one"),
        ("path,label", "{path},cat|dog|", r"60 rows have an empty label beside a \|: take the \| out"),
        ("path,label", "{path},100000000000000000000", "labels are 1 numbers from 100000000000000000000 to"),
        ("path,label", "{path},9|10", "labels are 2 numbers written as text, from 9 to 10 and not 0 to K-1"),
        ("picture,label", "{path},cat", "has the columns picture, label; expected one called path or file or "),
        ("image_id,diagnosis", "{path},cat", "or image_path, and one called label or class or .* or y: rename it"),
        ("path,file,label", "{path},{path},cat", "columns path and file could both be the path"),
        ("path,label", "{path},", "60 rows have no label"),
        ("path,label", "gone{path},cat", r"60 of 60 files are not there, the first is .*gonepictures"),
        (
            "path,label",
            "{path},7",
            r"labels are 1 numbers from 7 to 7, expected 0 to K-1: number them from 0, or write names \(class7\)",
        ),
        ("path,label,split", "{path},cat,fold1", "column split has fold1; expected one of train, training"),
        ("path,label", "{path}", "60 rows have another number of columns, the first is row 2"),
        ("path,label", "{path},cat,more", "60 rows have another number of columns"),
    ],
)
def test_other_tables_are_refused(write: Write, header: str, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(write(header, lambda index, path: row.format(path=path)))


def test_a_column_that_is_not_there_and_empty_or_missing_tables(write: Write, tmp_path: Path) -> None:
    spec = write("path,label", lambda index, path: f"{path},{index % 2}")
    with pytest.raises(DataError, match="none is 'who' to group by"):
        load_data(spec, group_by="who")
    (tmp_path / "list.csv").write_text("path,label\n")
    with pytest.raises(DataError, match="has no rows"):
        load_data(spec)
    with pytest.raises(DataError, match="no such file; expected manifest:PATH"):
        load_data(f"manifest:{tmp_path}/gone.csv")
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00garbage\x00")
    with pytest.raises(DataError, match=r"list\.csv: is not in UTF-8 \("):
        load_data(spec)
    (tmp_path / "list.csv").write_text("{}\n")
    with pytest.raises(DataError, match=r"list\.csv: is JSON, expected a CSV or TSV table: pandas\.read_json"):
        load_data(spec)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets_on_windows_are_read(write: Write, tmp_path: Path, encoding: str) -> None:
    spec = write("path, label, split", lambda i, path: f"{path}, é{i % 2} , {'dev' if i > 49 else 'train '}")
    text = (tmp_path / "list.csv").read_text(encoding="utf-8").replace("/", "\\").replace("\n", "\r\n")
    (tmp_path / "list.csv").write_bytes(text.encode(encoding))
    splits = load_data(spec)
    assert splits.class_names == ("é0", "é1")
    assert len(splits.test.images()) == 10


def test_another_encoding_is_said(write: Write, tmp_path: Path) -> None:
    spec = write("path,label", lambda i, path: f"{path},é{i % 2}")
    (tmp_path / "list.csv").write_bytes((tmp_path / "list.csv").read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(DataError, match=r"list\.csv: is not in UTF-8 \(.*\), perhaps in Latin-1 .*: save it as UTF-8"):
        load_data(spec)


def test_data_without_groups_says_so() -> None:
    with pytest.raises(DataError, match="'digits' has nothing to group by 'who'"):
        load_data("digits", group_by="who")
