"""Raw pixels to inputs: values, sizes, channels, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from seenn.data import Preprocessing
from seenn.errors import CheckpointError, DataError

GRAY = Preprocessing(channels=1, height=4, width=4, mean=(0.25,), std=(0.5,))
IDENTITY = Preprocessing(channels=3, height=24, width=24, mean=(0.0,) * 3, std=(1.0,) * 3)


def random_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def smooth_image(height: int, width: int) -> Tensor:
    """Structure, so that resizing means something: [3, H, W]."""
    rows, columns = torch.meshgrid(torch.linspace(0, 9, height), torch.linspace(0, 7, width), indexing="ij")
    waves = [(rows * columns).sin(), (rows + columns).cos(), (rows - 2 * columns).sin()]
    return ((torch.stack(waves) + 1) * 127.5).round().to(torch.uint8)


def test_pixels_of_the_right_size_are_only_normalised() -> None:
    images = random_images(2, 1, 4, 4)
    expected = (images.double() / 255 - 0.25) / 0.5
    result = GRAY(images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (12, 9)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_that_were_prepared_are_only_normalised_after_that(channels: int, size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prepare = Preprocessing(channels=channels, height=8, width=8, mean=(0.4,) * channels, std=(0.2,) * channels)
    pixels = prepare.pixels(images)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (2, channels, 8, 8))
    assert torch.equal(prepare(pixels), prepare(images))


def test_crop_leaves_an_image_of_the_right_size_alone() -> None:
    images = random_images(2, 1, 4, 4)
    assert torch.equal(replace(GRAY, crop=0.5)(images), GRAY(images))


@pytest.mark.parametrize("size", [(24, 40), (51, 30), (100, 99), (10, 17)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_resizing_and_cropping_agree_with_torchvision_on_pil(size: tuple[int, int], interpolation: str) -> None:
    image = smooth_image(*size)
    oracle = transforms.Compose(
        [
            transforms.Resize(27, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(24),
            transforms.PILToTensor(),
        ]
    )
    expected = oracle(Image.fromarray(image.permute(1, 2, 0).numpy()))
    result = replace(IDENTITY, interpolation=interpolation, crop=24 / 27)(image[None])[0] * 255
    assert (result - expected).abs().max() < 1.01  # PIL rounds its weights to 8 bits, and after each axis


def test_crop_given_as_a_ratio_of_sizes_is_exact() -> None:
    image = smooth_image(354, 354)[None]  # resized to 354, which is to say not at all
    centre = image[..., 65:289, 65:289].float()
    cropped = replace(IDENTITY, height=224, width=224, crop=224 / 354)(image) * 255
    torch.testing.assert_close(cropped, centre, rtol=0, atol=1e-3)


def test_input_that_is_not_square_is_covered_by_the_resized_image() -> None:
    wide = replace(IDENTITY, height=10, width=30)
    column = torch.arange(40, dtype=torch.uint8).expand(1, 3, 20, 40)
    assert wide(column).shape == (1, 3, 10, 30)


def test_resized_pixels_stay_on_the_8_bit_grid() -> None:
    checkers = (torch.arange(50)[:, None] + torch.arange(50)) // 5 % 2 * 255  # bicubic overshoots at edges
    result = IDENTITY(checkers.to(torch.uint8).expand(1, 3, 50, 50)) * 255
    torch.testing.assert_close(result, result.round(), rtol=0, atol=1e-4)
    assert result.min() >= 0
    assert result.max() <= 255


def test_an_image_gives_the_same_input_alone_and_in_a_batch() -> None:
    images = random_images(7, 3, 31, 45)
    assert torch.equal(IDENTITY(images), torch.cat([IDENTITY(image[None]) for image in images]))


def test_gray_is_repeated_for_rgb() -> None:
    images = random_images(2, 1, 24, 24)
    assert torch.equal(IDENTITY(images) * 255, images.float().expand(-1, 3, -1, -1))


def test_rgb_becomes_the_luma_that_pil_computes() -> None:
    images = random_images(1, 3, 64, 64)
    gray = Preprocessing(channels=1, height=64, width=64, mean=(0.0,), std=(1 / 255,))
    expected = np.array(Image.fromarray(images[0].permute(1, 2, 0).numpy()).convert("L"))
    torch.testing.assert_close(gray(images)[0, 0].round(), torch.from_numpy(expected).float())


def test_float_images_are_refused() -> None:
    with pytest.raises(TypeError, match=r"torch\.float32, expected torch\.uint8"):
        GRAY(torch.rand(1, 1, 4, 4))


def test_images_without_a_batch_axis_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[1, 4, 4\], expected \[B, C, H, W\]"):
        GRAY(random_images(1, 4, 4))


def test_channels_that_cannot_be_converted_are_refused() -> None:
    with pytest.raises(DataError, match="images have 4 channels and the network takes 1"):
        GRAY(random_images(1, 4, 4, 4))


def test_elongated_image_is_refused_before_it_is_resized() -> None:
    with pytest.raises(DataError, match="10000 pixels wide and 1 high is too elongated for an input 4 wide and 4 high"):
        GRAY(random_images(1, 1, 1, 10000))


def test_json_round_trip() -> None:
    preprocessing = replace(IDENTITY, interpolation="bilinear", crop=0.875)
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("channels", 0, "channels is 0, expected an integer from 1 to 1024"),
        ("height", 1.5, r"height is 1\.5, expected an integer from 1 to 16384"),
        ("width", 10**9, "width is 1000000000, expected an integer from 1 to 16384"),
        ("mean", ["0"], r"mean is \('0',\), expected finite numbers"),
        ("mean", 0.5, r"mean is 0\.5, expected finite numbers"),
        ("mean", [0.0, 0.0], "mean has 2 values, expected one for each of 1 channels"),
        ("std", [0.0], r"std is \(0\.0,\), expected numbers above 0"),
        ("std", [float("nan")], r"std is \(nan,\), expected finite numbers"),
        ("interpolation", "cubist", "interpolation is 'cubist', expected one of bicubic, bilinear"),
        ("interpolation", ["bicubic"], "interpolation is .*, expected one of"),
        ("crop", 0, r"crop is 0, expected a number in \(0, 1\]"),
        ("crop", True, r"crop is True, expected a number in \(0, 1\]"),
    ],
)
def test_field_out_of_range_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"preprocessing in the checkpoint cannot be used: .*{message}"):
        Preprocessing.from_json(GRAY.to_json() | {field: value})


def test_every_bad_field_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"height is -1.*; crop is 2"):
        replace(GRAY, height=-1, crop=2)


@pytest.mark.parametrize("obj", [None, [], {"channels": 1}, GRAY.to_json() | {"extra": 1}])
def test_json_with_other_fields_is_refused(obj: object) -> None:
    with pytest.raises(CheckpointError, match="expected exactly the fields"):
        Preprocessing.from_json(obj)
