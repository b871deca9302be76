"""The one way in which all formats are written: refused, or written, run and kept; nothing in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seenn.errors import DataError, ExportError, OutputError, PluginError, UnsupportedError
from seenn.export import FORMATS, ExportOptions, Format, Subject, export
from seenn.files import atomic_folder

from .conftest import MakeSnn


class Toy(Format):
    """Writes a word, or does what it is told to."""

    suffix = ".toy"

    def __init__(self, answer: str = "fine", packages: tuple[str, ...] = ()) -> None:
        self.answer, self.packages, self.extra = answer, packages, "toys"  # type: ignore[misc]

    def violations(self, subject: Subject) -> list[str]:
        return ["act1: too loud", "act2: too bright", "act3: too loud", "too old"] if self.answer == "refuse" else []

    def write(self, subject: Subject, path: Path) -> None:
        path.write_text("word")
        if self.answer == "full disk":
            raise OSError(28, "No space left on device")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        if self.answer == "differs":
            raise ExportError("the toy says otherwise")
        return "a toy 1.0", {"images": len(subject.batch), "word": path.read_text()}


@pytest.fixture
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(FORMATS._found, "toy", request.param)
    return "toy"


@pytest.mark.parametrize("toy", [Toy()], indirect=True)
def test_a_file_that_its_reader_runs_is_kept(toy: str, make_snn: MakeSnn, tmp_path: Path) -> None:
    found = make_snn().export(tmp_path / "a.toy", to=toy, images=torch.zeros(3, 1, 8, 8))
    assert (tmp_path / "a.toy").read_text() == "word"
    assert (found.reader, found.inputs) == ("a toy 1.0", "given, 3 images")
    assert found.to_json()["compared"] == {"images": 3, "word": "word"}
    assert make_snn().export(tmp_path / "a.toy", to=toy).inputs == "random pixels (seed 0), 14 images"


@pytest.mark.parametrize(
    ("toy", "error", "message"),
    [
        (
            Toy("refuse"),
            UnsupportedError,
            "4 things stand in the way of toy: act1, act3: too loud; act2: too bright; too old",
        ),
        (Toy("differs"), ExportError, "the toy says otherwise"),
        (Toy("full disk"), OutputError, "No space left on device"),
        (Toy(packages=("no-such-toy",)), UnsupportedError, r"toy needs no-such-toy, .* pip install 'seenn\[toys\]'"),
    ],
    indirect=["toy"],
)
def test_whatever_fails_leaves_what_was_there(
    toy: str, error: type[Exception], message: str, make_snn: MakeSnn, tmp_path: Path
) -> None:
    (tmp_path / "a.toy").write_text("older")
    with pytest.raises(error, match=message):
        make_snn().export(tmp_path / "a.toy", to=toy)
    assert [path.name for path in tmp_path.iterdir()] == ["a.toy"]
    assert (tmp_path / "a.toy").read_text() == "older"


def test_options_go_to_formats_that_know_them(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn()
    with pytest.raises(ValueError, match="integers takes no --raw-pixels: onnx, onnx-qdq, onnx-step do"):
        snn.export(tmp_path / "a", to="integers", raw_pixels=True)
    with pytest.raises(ValueError, match="onnx takes no --reader: nir, onnx-qdq, speck do"):
        export(snn, tmp_path / "a", "onnx", options=ExportOptions(reader="sinabs"))
    with pytest.raises(PluginError, match=r"unknown export format 'onx'.*'onnx'"):
        snn.export(tmp_path / "a", to="onx")


@pytest.mark.parametrize("toy", [Toy()], indirect=True)
def test_what_cannot_be_prepared_is_refused(toy: str, make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = replace(make_snn(), preprocessing=None)
    with pytest.raises(
        UnsupportedError, match="--raw-pixels needs the preprocessing of images, which this network does not"
    ):
        snn.export(tmp_path / "a.onnx", to="onnx", raw_pixels=True)
    with pytest.raises(DataError, match="expected"):
        snn.export(tmp_path / "a.toy", to=toy, images=torch.zeros(3, 2, 8, 8))
    with pytest.raises(ValueError, match="there are no images to compare on"):
        snn.export(tmp_path / "a.toy", to=toy, images=torch.zeros(0, 1, 8, 8))


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "net"
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as inside:
        (inside / "a").write_text(str(1 // 0))
    assert not list(tmp_path.iterdir())
    for word in ("one", "two"):
        with atomic_folder(target) as inside:
            (inside / "a").write_text(word)
        (target / "own").write_text("kept")
        assert (target / "a").read_text() == word
    assert {path.name for path in target.iterdir()} == {"a", "own"}
    with pytest.raises(OutputError, match="is a file, and a folder is to be written"), atomic_folder(target / "a"):
        pass
