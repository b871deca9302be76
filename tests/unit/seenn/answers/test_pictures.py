from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.answers import Picture, check_inputs, find_pictures
from seenn.answers.pictures import expand
from seenn.data.picture import read_picture
from seenn.errors import DataError


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(path)
    return path


def found(*inputs: str | Path) -> list[Picture]:
    return [picture for unit in find_pictures(map(str, inputs)) for picture in unit]


def paths(*inputs: str | Path) -> list[str]:
    return [picture.path for picture in found(*inputs)]


def test_inputs_of_all_kinds_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.png",
        "a.png",
        "f/2.PNG",
        "f/1/x.png",
        "f/notes.txt",
        "f/.hidden/y.png",
        "f/__MACOSX/z.png",
        "f/.w.png",
    ):
        save(Path(name).with_suffix(".png")).rename(name)
    Path("t.tsv").write_text("label\tfilename\n1\tf/2.PNG\n2\ta.png\n")
    assert paths("b.png", "f", "t.tsv", "?.png") == [
        "b.png",
        "f/1/x.png",
        "f/2.PNG",
        "f/2.PNG",
        "a.png",
        "a.png",
        "b.png",
    ]


def test_files_of_other_endings_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("f/a.png", "f/1/b.png", "f/c.png"):
        save(tmp_path / name)
    (tmp_path / "f/c.png").rename(tmp_path / "f/c.jfif")
    for name in ("f/d.avif", "f/1/e.avif", "f/1/readme"):
        (tmp_path / name).write_bytes(b"x")
    check_inputs([str(tmp_path / "f")])
    assert len(paths(tmp_path / "f")) == 3
    (record,) = caplog.records
    assert "f: 3 files left out, by their endings: .avif (2), no ending (1)" in record.getMessage()


def test_names_on_stdin_are_inputs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.png"))
    save(Path("f/b.png"))
    Path("list").write_text("a.png\n\nf\ngone.png\n")
    with open("list") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        pictures = found("-", "a.png")
    assert [picture.path for picture in pictures] == ["a.png", "f/b.png", "gone.png", "a.png"]
    with pytest.raises(DataError, match=r"gone\.png: no such image file"):
        pictures[2].read()


def test_pictures_are_read_in_other_processes_too(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png")
    (picture,) = found(file)
    assert torch.equal(pickle.loads(pickle.dumps(picture)).read(), read_picture(file))  # noqa: S301


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s-{008..011}.tar", ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]),
        ("{0..1}{0..1}", ["00", "01", "10", "11"]),
        ("nothing-*.png", ["nothing-*.png"]),
        ("{a..b}.png", ["{a..b}.png"]),
    ],
)
def test_patterns(pattern: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(expand(pattern)) == names


def test_a_file_that_looks_like_a_pattern_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a[1].png"))
    save(Path("a1.png"))
    assert paths("a[1].png", "a{1..1}.png") == ["a[1].png", "a1.png"]


def test_names_with_line_ends_and_foreign_bytes_stay_one_line_of_text(tmp_path: Path) -> None:
    os.rename(save(tmp_path / "plain.png"), os.fsencode(tmp_path) + b"/a\nb\xe9.png")
    (picture,) = found(tmp_path)
    assert picture.path == f"{tmp_path}/a\\nb\\udce9.png"
    assert picture.read().shape == (3, 4, 5)


def test_a_linked_folder_is_searched_and_a_loop_is_named(tmp_path: Path) -> None:
    save(tmp_path / "real" / "a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    first, second = found(tmp_path / "in")
    assert first.path.endswith("in/linked/a.png")
    with pytest.raises(DataError, match="in/loop: is a link to a folder that it lies in; remove it"):
        second.read()


def test_links_that_lead_nowhere_hide_no_other_picture(tmp_path: Path) -> None:
    save(tmp_path / "b.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    broken, whole, itself = found(tmp_path)
    assert whole.read().shape == (3, 4, 5)
    for picture in (broken, itself):
        with pytest.raises(DataError, match="no such image file"):
            picture.read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_hides_no_other_picture(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x.png")
    save(tmp_path / "b" / "y.png")
    (tmp_path / "a").chmod(0)
    closed, whole = found(tmp_path)
    assert whole.path.endswith("b/y.png")
    with pytest.raises(DataError, match="a: cannot be opened: Permission denied"):
        closed.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,label\na.png,1\n",
            r"t\.csv: has the columns name, label; expected one called path or file or filename or",
        ),
        ("", r"t\.csv: has the columns \(none\); expected one called path or file or filename or"),
        ("path,label\n,3\n", r"t\.csv:2: the column path is empty; expected a file"),
        ("path\n" + "x" * 200_000 + "\n", r"t\.csv: cannot be read \(Error: field larger"),
        ("path\na.png\n\udcff.png\n", r"t\.csv: is not in UTF-8 \(.*\), .*: save it as UTF-8"),
    ],
    ids=["another column", "empty", "no path", "long", "no text"],
)
def test_tables_that_cannot_be_listed_are_pictures_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text, errors="surrogateescape")
    *_, last = found(tmp_path / "t.csv")
    with pytest.raises(DataError, match=message):
        last.read()


def test_what_is_missing_or_empty_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.png"))
    save(Path("f/deep/a.png"))
    Path("bare").mkdir()
    Path("t.csv").write_text("name\na.png\n")
    check_inputs(["-", "a.png", "f"])
    with pytest.raises(
        DataError, match=r"gone, s-1\.tar, s-2\.tar: no such file, folder or pattern; check the spelling"
    ):
        check_inputs(["a.png", "gone", "s-{1..2}.tar"])
    with pytest.raises(DataError, match=r"s-5\.tar and 15 more: no such"):
        check_inputs(["s-{1..20}.tar"])
    with pytest.raises(DataError, match=r"bare: holds no picture; expected files that end in \.bmp"):
        check_inputs(["bare"])
    with pytest.raises(DataError, match="expected one called path or file or filename or"):
        check_inputs(["t.csv"])
    Path("rows.csv").write_text("path\n")
    tarfile.open("no.tar", "w").close()
    os.mkfifo("pipe.csv")
    for name, message in (("rows.csv", "holds no pic"), ("no.tar", "holds no pic"), ("pipe.csv", "no regular file")):
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            check_inputs([name])


@pytest.mark.parametrize(("header", "row"), [("Path;Label", "a.png;1"), ("id\tFile Path\tfilename", "1\t-\ta.png")])
def test_a_table_is_read_as_a_manifest_is(tmp_path: Path, header: str, row: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n")
    assert [picture.path for picture in found(tmp_path / "t.csv")] == [str(tmp_path / "a.png")]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    stream = io.BytesIO(b"no picture")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    (picture,) = found(tmp_path)
    with pytest.raises(DataError, match=r"a\.png: is damaged or no BMP"):
        picture.read()
