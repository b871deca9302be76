"""What is said about preprocessing, over what is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seenn.data import Numbers, Preprocessing, Stated
from seenn.data.imagenet import IMAGENET


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"input_size": (160,)}, {"height": 160, "width": 160}),
        ({"input_size": (32, 64)}, {"height": 32, "width": 64}),
        ({"mean": (0.5,), "std": (0.25,)}, {"mean": (0.5,) * 3, "std": (0.25,) * 3}),
        ({"crop_pct": 0.95, "interpolation": "bilinear"}, {"crop": 0.95, "interpolation": "bilinear"}),
    ],
)
def test_what_is_said_replaces_and_the_rest_stays(said: dict[str, Any], expected: dict[str, Any]) -> None:
    assert Stated(**said).over(IMAGENET).to_json() == {
        **IMAGENET.to_json(),
        **{name: list(v) if isinstance(v, tuple) else v for name, v in expected.items()},
    }
    assert bool(Stated(**said)) == bool(said)


@pytest.mark.parametrize("said", [{"in_chans": 1}, {"input_size": (1, 28, 28)}])
def test_one_channel_gets_the_average_of_three_and_three_get_that_of_one(said: dict[str, Any]) -> None:
    gray = Stated(**said).over(IMAGENET)
    assert isinstance(gray, Preprocessing)
    assert gray.mean == pytest.approx((0.449,))
    assert gray.std == pytest.approx((0.226,))
    assert Stated(in_chans=3).over(gray).mean == gray.mean * 3


def test_what_does_not_go_together_is_refused() -> None:
    for said, message in (
        ({"input_size": (1, 8, 8), "in_chans": 3}, "has 1 channels and in_chans is 3"),
        ({"input_size": (1, 1, 8, 8)}, "the input size of images must be H,W or C,H,W, got 1,1,8,8"),
        ({"in_chans": 4}, "mean has 3 values, expected one for each of 4"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values"),
    ):
        with pytest.raises(ValueError, match=message):
            Stated(**said).over(IMAGENET)  # type: ignore[arg-type]


def test_numbers_are_normalised_and_get_axes_but_are_not_resized() -> None:
    said = Stated(input_size=(1, 28, 28), mean=(0.1,), std=(0.3,), crop_pct=0.9)
    assert said.over(Numbers(shape=(28, 28))) == Numbers(shape=(1, 28, 28), mean=(0.1,), std=(0.3,))
    assert said.normalisation
    assert not Stated(mean=(0.1,)).normalisation


@pytest.mark.parametrize(("size", "shape"), [((), (3, 8, 8)), ((6,), (3, 6, 6)), ((6, 4), (3, 6, 4))])
def test_sizes_of_prepared_images_leave_the_channels_as_they_are(size: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert Stated(input_size=size or None).over(Numbers(shape=(3, 8, 8))) == Numbers(shape=shape)


def test_pixels_stored_as_numbers_are_not_normalised_as_shares_of_255() -> None:
    pixels = torch.arange(256.0).view(1, 1, 16, 16)
    said = Stated(mean=(0.5,), std=(0.25,))
    with pytest.raises(ValueError, match=r"numbers from 0 to 255, .* up to 1018: store .* state mean 127.5, std 63.75"):
        said.refuse_pixels(pixels)
    for fine in (pixels.to(torch.uint8), pixels / 255, pixels - 1, pixels[0]):
        said.refuse_pixels(fine)
    for own in (Stated(mean=(127.5,), std=(63.75,)), Stated(mean=(0.5,)), Stated()):
        own.refuse_pixels(pixels)
