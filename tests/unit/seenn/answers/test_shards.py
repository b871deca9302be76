from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.answers import Picture, find_pictures
from seenn.answers.shards import members
from seenn.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
WAYS = [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("s.tgz", "w:gz"), ("s.tar.xz", "w:xz"), ("s.TAR.BZ2", "w:bz2")]


def png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, "PNG")
    return content.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes | None = None, **fields: object) -> None:
    content = png() if content is None else content
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


def write(path: Path, mode: str = "w", names: tuple[str, ...] = ("a.png", "b.png", "c.png")) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            add(archive, name)
    return path


def listed(path: Path) -> list[Picture]:
    return [picture for unit in find_pictures([str(path)]) for picture in unit]


def message(picture: Picture) -> str:
    with pytest.raises(DataError) as caught:
        picture.read()
    return str(caught.value)


@pytest.mark.parametrize(("name", "mode"), WAYS)
def test_pictures_come_in_the_order_of_the_file_under_its_name(name: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for member in ("2/z.png", "2/z.cls", "1.json", "1.PNG", ".hidden.png", "long/" * 60 + "ü.png"):
            add(archive, member)
    expected = torch.from_numpy(PIXELS).permute(2, 0, 1)
    pictures = listed(path)
    assert [picture.path for picture in pictures] == [
        f"{path}/2/z.png",
        f"{path}/1.PNG",
        f"{path}/" + "long/" * 60 + "ü.png",
    ]
    assert all(torch.equal(picture.read(), expected) for picture in pictures)


def test_names_are_names_only(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    Image.fromarray(PIXELS).save(outside)
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        add(archive, "../up.png")
        add(archive, "/etc/absolute.png")
        add(archive, "link.png", b"", type=tarfile.SYMTYPE, linkname=str(outside))
        add(archive, "hard.png", b"", type=tarfile.LNKTYPE, linkname="../up.png")
        add(archive, "pipe.png", b"", type=tarfile.FIFOTYPE)
        add(archive, "folder.png", b"", type=tarfile.DIRTYPE)
    before = sorted(tmp_path.rglob("*"))
    up, absolute, *others = listed(tmp_path / "s.tar")
    assert up.read().shape == absolute.read().shape == (3, 4, 5)
    assert [picture.path.rpartition("/")[2] for picture in others] == ["link.png", "hard.png", "pipe.png"]
    assert all("is a link or has holes; store it as a plain file" in message(picture) for picture in others)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "mode"), WAYS[:2])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6])
def test_a_file_that_was_cut_off_is_said_after_what_is_whole(
    share: float, name: str, mode: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, mode)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)] if mode != "w" else content[: int(3 * 1024 * share)])
    *whole, last = listed(path)
    assert last.path == str(path)
    assert message(last).startswith(f"{path}: cannot be read (")
    assert len(whole) < 4


def test_a_file_that_ends_between_two_pictures_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tar")
    size = 512 + -(-len(png()) // 512) * 512
    path.write_bytes(path.read_bytes()[: 2 * size])
    first, second, last = listed(path)
    assert first.read().shape == second.read().shape
    assert "it has a empty header" in message(last)


def test_a_header_that_was_overwritten_does_not_end_the_file_silently(tmp_path: Path) -> None:
    path = write(tmp_path / "s.tar")
    content = bytearray(path.read_bytes())
    start = 512 + -(-len(png()) // 512) * 512
    content[start + 124 : start + 130] = b"\xff\xfe\x00zzz"
    path.write_bytes(content)
    first, last = listed(path)
    assert first.path.endswith("a.png")
    assert "it has a" in message(last)


@pytest.mark.parametrize("compressed", [False, True])
def test_sizes_are_checked_before_anything_is_read(compressed: bool, tmp_path: Path) -> None:
    """A name of 2 GiB in an extended header, and a picture of 300 MiB: each a few bytes of file."""
    header = tarfile.TarInfo("name")
    header.type, header.size = tarfile.XHDTYPE, 2 << 30
    name = tmp_path / ("s.tar.gz" if compressed else "s.tar")
    block = header.tobuf(tarfile.USTAR_FORMAT)
    name.write_bytes(gzip.compress(block) if compressed else block)
    (only,) = listed(name)
    assert "it has a header of type b'x' and 2,147,483,648 bytes" in message(only)

    large = tarfile.TarInfo("large.png")
    large.size = 300 << 20
    with (gzip.open if compressed else open)(name, "wb") as stream:
        stream.write(large.tobuf(tarfile.USTAR_FORMAT))
    large_one, _ = listed(name)
    assert "large.png: has 314,572,800 bytes, at most 268,435,456 are read" in message(large_one)


def test_headers_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tarfile.TarFile] = []
    plain = tarfile.open

    def remember(*given: object, **named: object) -> tarfile.TarFile:
        opened.append(plain(*given, **named))  # type: ignore[call-overload]
        return opened[-1]

    path = write(tmp_path / "s.tar", names=tuple(f"{number}.png" for number in range(50)))
    monkeypatch.setattr(tarfile, "open", remember)
    kept = [len(opened[0].members) for _ in members(path)]  # type: ignore[attr-defined]
    assert max(kept) == 0


def test_a_picture_that_cannot_be_read_is_named_with_its_file(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        add(archive, "bad.png", b"hello")
    (bad,) = listed(tmp_path / "s.tar")
    assert message(bad).startswith(f"{tmp_path}/s.tar/bad.png: is damaged or no BMP")
