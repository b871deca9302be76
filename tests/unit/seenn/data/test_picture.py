"""Image files: every 8-bit kind is read, everything else is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.data import Preprocessing, picture
from seenn.data.picture import read_picture
from seenn.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tiff"])
def test_colour_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    file = saved(tmp_path / f"a{suffix}", Image.fromarray(PIXELS))
    assert torch.equal(read_picture(file), torch.from_numpy(PIXELS).permute(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("RGB", 3)])
def test_gray_keeps_one_channel_and_the_rest_becomes_rgb(tmp_path: Path, mode: str, channels: int) -> None:
    picture = read_picture(saved(tmp_path / "a.png", Image.fromarray(PIXELS).convert(mode)))
    assert picture.shape == (channels, 6, 9)
    assert picture.dtype == torch.uint8


def test_read_gives_a_batch_of_one_prepared(tmp_path: Path) -> None:
    preprocessing = Preprocessing(channels=1, height=6, width=9, mean=(0.5,), std=(0.25,))
    file = saved(tmp_path / "a.png", Image.fromarray(PIXELS))
    assert torch.equal(preprocessing.prepare(file), preprocessing(read_picture(file)[None]))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such image file"):
        read_picture(tmp_path / "gone.png")


def test_text_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match=r"a\.png: is damaged or no BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP picture"):
        read_picture(tmp_path / "a.png")


def test_postscript_is_not_handed_to_an_interpreter(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.eps: is damaged or no BMP"):
        read_picture(saved(tmp_path / "a.eps", Image.fromarray(PIXELS)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tiff", ".webp"])
def test_file_cut_anywhere_never_raises_anything_but_data_error(tmp_path: Path, suffix: str) -> None:
    whole = saved(tmp_path / f"whole{suffix}", Image.fromarray(PIXELS)).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    refused = 0
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        try:
            read_picture(cut)  # a file that only lost its end marker may still be whole
        except DataError as error:
            assert str(cut) in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(range(0, len(whole), 7)) / 2


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_are_scaled_to_8_and_said_once(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    picture._said.clear()
    levels = np.array([[0, 128, 129, 257, 40_000, 65_535]], dtype=np.uint16)
    file = saved(tmp_path / f"a{suffix}", Image.fromarray(levels))
    for _ in range(2):
        assert read_picture(file)[0].tolist() == [[0, 0, 1, 1, 156, 255]]
    assert caplog.text.count("have 16 bits: their levels 0 to 65535 become 0 to 255") == 1


@pytest.mark.parametrize("values", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70_000, np.int32)])
def test_deeper_pixels_are_refused_rather_than_clipped(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"deeper than 16 bits \(PIL mode [IF]\)"):
        read_picture(saved(tmp_path / "a.tiff", Image.fromarray(values)))


def test_cmyk_becomes_rgb_and_exif_orientation_is_ignored_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture._said.clear()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.jpg"
    Image.fromarray(PIXELS).convert("CMYK").save(turned, exif=exif)
    assert read_picture(turned).shape == (3, 6, 9)
    assert "EXIF orientation, which training ignores" in caplog.text


@pytest.mark.parametrize("side", [10_000, 100_000])  # where PIL would warn, and where it would raise
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(DataError, match=r"bomb\.png: too large, more than 89,478,485 pixels"):
        read_picture(tmp_path / "bomb.png")
