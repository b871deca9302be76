"""Image files: every 8-bit kind is read, everything else is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.data import Preprocessing
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


def test_deep_pixels_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16))
    with pytest.raises(DataError, match=r"deeper than 8 bits \(PIL mode I;16\)"):
        read_picture(saved(tmp_path / "a.png", deep))


@pytest.mark.parametrize("side", [10_000, 100_000])  # where PIL would warn, and where it would raise
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(DataError, match=r"bomb\.png: cannot be read \(DecompressionBomb"):
        read_picture(tmp_path / "bomb.png")
