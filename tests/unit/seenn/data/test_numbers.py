"""Numbers as inputs: shapes, normalisation, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seenn.data import Numbers
from seenn.data.preprocessing import Preprocessing, preparation_from_json, suited
from seenn.errors import CheckpointError, DataError, InputError

SIGNAL = Numbers(shape=(2, 5), mean=(1.0, 2.0), std=(2.0, 4.0))


def test_each_channel_has_its_mean_and_std() -> None:
    raw = torch.arange(20, dtype=torch.float64).reshape(2, 2, 5)
    expected = (raw - torch.tensor([1.0, 2.0])[:, None]) / torch.tensor([2.0, 4.0])[:, None]
    assert torch.equal(SIGNAL(raw), expected.float())


def test_axes_of_one_may_be_missing_and_no_others() -> None:
    image = Numbers(shape=(1, 4, 5))
    assert image(torch.zeros(3, 4, 5)).shape == (3, 1, 4, 5)
    for wrong in ((3, 5, 4), (3, 20), (3, 2, 4, 5)):
        with pytest.raises(InputError, match="numbers a sample, the network takes 1×4×5"):
            image(torch.zeros(wrong))


def test_floats_are_prepared_and_integers_raw() -> None:
    floats = torch.randn(3, 2, 5)
    assert torch.equal(SIGNAL.prepare(floats), floats)
    assert torch.equal(SIGNAL.prepare(floats[0].numpy()), floats[:1])
    assert torch.equal(SIGNAL.prepare([floats[0], floats[1]]), floats[:2])
    raw = torch.arange(10).reshape(1, 2, 5)
    assert torch.equal(SIGNAL.prepare(raw), SIGNAL(raw))
    assert SIGNAL.prepare(torch.zeros(4, 3, 2, 5)).shape == (4, 3, 2, 5)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (torch.zeros(3, 5, 2), InputError, r"samples have shape \[3, 5, 2\], expected 2×5 each"),
        (torch.full((2, 5), torch.nan), InputError, "samples hold NaN or infinity"),
        ("a.wav", TypeError, "samples are str, and the network takes numbers 2×5, .*: prepare pictures as in training"),
        ([Path("a.png")], TypeError, "samples are PosixPath, .* or convert it again with preprocessing="),
        (Image.new("L", (5, 2)), TypeError, "samples are Image, and the network takes numbers 2×5"),
        (torch.zeros(2, 5, dtype=torch.bool), TypeError, r"samples are torch\.bool"),
        (np.array(["a"]), TypeError, "samples are an array of <U1"),
    ],
)
def test_other_samples_are_refused(samples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SIGNAL.prepare(samples)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": ()}, "shape is \\(\\), expected positive integers"),
        ({"shape": (2, 0)}, "shape is"),
        ({"shape": (2, 5), "mean": (1.0,) * 3}, "mean has 3 values, expected one, or one for each of 2 channels"),
        ({"shape": (2, 5), "std": (0.0,)}, "std is .* expected numbers above 0"),
        ({"shape": (2, 5), "mean": (float("nan"),)}, "expected finite numbers"),
    ],
)
def test_fields_out_of_range_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Numbers(**fields)
    record = {"mean": [0.0], "std": [1.0], **{name: list(value) for name, value in fields.items()}}
    with pytest.raises(CheckpointError, match="preprocessing in the checkpoint cannot be used"):
        preparation_from_json(record)


def test_a_file_gives_back_either_kind() -> None:
    pictures = Preprocessing(channels=1, height=2, width=3, mean=(0.5,), std=(0.5,))
    for preparation in (SIGNAL, pictures):
        assert preparation_from_json(preparation.to_json()) == preparation
    with pytest.raises(CheckpointError, match="expected lists shape, mean and std"):
        preparation_from_json({**SIGNAL.to_json(), "crop": 1})


def test_floats_for_a_network_of_pictures_are_prepared_already() -> None:
    pictures = Preprocessing(channels=1, height=2, width=3, mean=(0.5,), std=(0.5,))
    assert suited("x", pictures, pictures=False) == Numbers(shape=(1, 2, 3))
    with pytest.raises(DataError, match=r"x has pictures, and the network takes numbers of shape \[2, 5\]"):
        suited("x", SIGNAL, pictures=True)
