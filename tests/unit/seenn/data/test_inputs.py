"""One rule for what people call images: the same input from every form, and a reason where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.data import Preprocessing

RGB = Preprocessing(channels=3, height=6, width=8, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
GRAY = Preprocessing(channels=1, height=6, width=8, mean=(0.25,), std=(0.5,))
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)  # NHWC
EXPECTED = RGB(torch.from_numpy(PIXELS).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        np.flip(np.flip(PIXELS, 0), 0),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
        list(PIXELS),
        [torch.from_numpy(image).permute(2, 0, 1) for image in PIXELS],
        [Image.fromarray(image) for image in PIXELS],
        EXPECTED,
        EXPECTED.double(),
        EXPECTED.numpy(),
        EXPECTED.numpy().astype(">f8"),
        list(EXPECTED),
        EXPECTED.to_sparse(),
        EXPECTED.clone().requires_grad_(),
        EXPECTED.transpose(2, 3).contiguous().transpose(2, 3),
        np.ma.masked_array(EXPECTED.numpy(), mask=False),
        [EXPECTED[:2], EXPECTED[2:]],
    ],
    ids=lambda images: type(images).__name__,
)
def test_every_form_gives_the_same_input(images: Any) -> None:
    prepared = RGB.prepare(images)
    assert prepared.dtype == torch.float32
    assert torch.equal(prepared, EXPECTED)


def test_one_image_is_a_batch_of_one(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    for image in (
        PIXELS[0],
        Image.fromarray(PIXELS[0]),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        [tmp_path / "a.png"],
        EXPECTED[0],
    ):
        assert torch.equal(RGB.prepare(image), EXPECTED[:1])
    assert torch.equal(GRAY.prepare(PIXELS[0, :, :, 0]), GRAY(torch.from_numpy(PIXELS[:1, :, :, 0])[None]))
    assert GRAY.prepare(tmp_path / "a.png").shape == (1, 1, 6, 8)


def test_read_only_arrays_are_taken() -> None:
    frozen = PIXELS.copy()
    frozen.setflags(write=False)
    assert torch.equal(RGB.prepare(frozen), EXPECTED)


def test_raw_images_of_another_size_are_resized() -> None:
    large = np.zeros((2, 31, 40, 3), dtype=np.uint8)
    assert RGB.prepare(large).shape == (2, 3, 6, 8)
    assert RGB.prepare([large[0], PIXELS[0]]).shape == (2, 3, 6, 8)


def test_frames_stay_frames() -> None:
    frames = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)[:, None]  # [T, 1, C, H, W]
    assert torch.equal(RGB.prepare(frames), EXPECTED[:, None])
    assert torch.equal(RGB.prepare(EXPECTED[:, None]), EXPECTED[:, None])
    assert RGB.prepare([EXPECTED[:, None], EXPECTED[:, None]]).shape == (5, 2, 3, 6, 8)


def test_a_gray_image_may_lack_its_channel_and_its_batch() -> None:
    gray = torch.rand(5, 1, 6, 8) / 2
    for part, expected in ((gray[0, 0], gray[:1]), (gray[0], gray[:1]), (gray[:, 0], gray)):
        assert torch.equal(GRAY.prepare(part), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast(dtype: torch.dtype) -> None:
    torch.testing.assert_close(RGB.prepare(EXPECTED.to(dtype)), EXPECTED, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_the_darkest_and_the_brightest_pixel_are_in_range(extreme: float) -> None:
    image = (torch.full((1, 1, 6, 8), extreme) - 0.25) / 0.5
    assert torch.equal(GRAY.prepare(image), image)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float(),
            r"0 to 255, but .* between -2 and 3; are they pixels from 0",
        ),
        (EXPECTED - 9, r"lie between -2 and .*; they were prepared in another way: use the network's own"),
        (torch.where(EXPECTED > 1, torch.nan, EXPECTED), "images hold NaN or infinity"),
        (torch.full((1, 3, 6, 8), torch.inf), "images hold NaN or infinity"),
        (EXPECTED[:, :1], r"images have shape \[5, 1, 6, 8\], expected \[B, 3, 6, 8\], or \[T, B, 3, 6, 8\]"),
        (torch.zeros(2, 4, 8, 9, dtype=torch.uint8), r"\[2, 4, 8, 9\], which does not say what they are: expected"),
        (torch.zeros(2, 3, 9, 3, dtype=torch.uint8), r"\[2, 3, 9, 3\], which does not say what they are"),
        (torch.zeros(7, 9, 9, dtype=torch.uint8), r"\[7, 9, 9\], which does not say what they are"),
        ([], "there are no images in the list"),
        (np.ma.masked_array(EXPECTED.numpy(), mask=EXPECTED.numpy() > 1), "values are masked: fill them in"),
        ([EXPECTED[:, None], EXPECTED], "samples are of several numbers of frames"),
    ],
)
def test_values_and_shapes_that_cannot_be_the_networks_are_refused(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RGB.prepare(images)


def test_three_gray_images_are_not_taken_for_a_colour_one() -> None:
    with pytest.raises(ValueError, match=r"\[3, 6, 8\], which does not say what they are"):
        GRAY.prepare(np.zeros((3, 6, 8), dtype=np.uint8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 6, 8, dtype=torch.int64), r"images are torch\.int64: .*\(images\.to\(torch\.uint8\)\)"),
        (torch.zeros(1, 3, 6, 8, dtype=torch.bool), r"images are torch\.bool: expected PIL images"),
        (torch.zeros(1, 3, 6, 8, dtype=torch.complex64), r"images are torch\.complex64"),
        (torch.zeros(1, 3, 6, 8, device="meta"), "samples are on the meta device, where there are no values"),
        (np.zeros((1, 3, 6, 8), dtype=np.int32), "images are an array of int32"),
        (np.zeros((1, 3, 6, 8), dtype=np.uint16), "images are an array of uint16"),
        (np.array(["a.png"]), "images are an array of <U5"),
        (b"a.png", r"images are bytes: give their file's path, or PIL\.Image\.open\(io\.BytesIO"),
        (None, "images are NoneType"),
        ([0.5, 0.25], "images are float"),
    ],
)
def test_other_types_are_refused_with_what_to_do(images: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        RGB.prepare(images)
