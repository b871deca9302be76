"""A model that does not know the data is found out before it is converted."""

from __future__ import annotations

import logging
from dataclasses import replace
from math import comb

import numpy as np
import pytest
import torch
from torch import nn

from converter import convert
from converter.chance import shown_better
from converter.load import LoadedModel
from seenn.batch import Batch
from seenn.data import DataSplits, Stated, load_data
from seenn.errors import CalibrationError, ModelError


def labelled(count: int, model: nn.Module, share: float) -> Batch:
    """Images on which the model is right for ``share``, else names the next class."""
    images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    answers = model(images).argmax(1)
    wrong = torch.arange(count) / count >= share
    return Batch(images, (answers + wrong.long()) % 4)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()
    net.requires_grad_(False)[3].bias -= net(torch.randn(500, 1, 8, 8)).mean(0)
    return net


@pytest.mark.parametrize(("samples", "chance"), [(20, 0.5), (200, 0.1), (37, 0.3)])
def test_the_test_is_the_exact_binomial_one(samples: int, chance: float) -> None:
    for right in range(samples + 1):
        tail = sum(comb(samples, k) * chance**k * (1 - chance) ** (samples - k) for k in range(right, samples + 1))
        if abs(tail - 0.01) > 1e-9:
            assert shown_better(right, samples, chance) == (tail < 0.01)


def test_a_model_that_is_right_by_chance_stops_the_conversion_and_force_goes_on(
    model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    batch = labelled(1200, model, 1.0)
    assert batch.labels is not None
    shuffled = Batch(batch.inputs, batch.labels[torch.randperm(1200, generator=torch.Generator().manual_seed(2))])
    message = r"right on \d+ of 240 held-out images .* not shown better than always .* check --mean, --std"
    with pytest.raises(ModelError, match=message):
        convert(model, shuffled, timesteps=2)
    caplog.clear()
    snn = convert(model, shuffled, timesteps=2, force=True)
    assert "not shown better than always" in caplog.text
    assert snn.manifest["check"]["samples"] == 240


def test_a_model_that_knows_something_passes_in_silence(model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        convert(model, labelled(1200, model, 0.9), timesteps=2)
    assert "chance" not in caplog.text
    assert "guess" not in caplog.text


def test_few_images_or_none_with_classes_are_a_warning(model: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    convert(model, labelled(100, model, 0.0), timesteps=2)
    assert "right on 20 of 20" not in caplog.text
    assert "right on 0 of 20 held-out images (0.0 %), no more than by always answering one class" in caplog.text
    assert "check the order of classes, --mean, --std and --input-size; 200 images or more would" in caplog.text
    caplog.clear()
    convert(model, labelled(100, model, 0.35), timesteps=2)
    assert "too few to show that it is better than chance; give 200 or more" in caplog.text
    caplog.clear()
    convert(model, labelled(100, model, 0.0).inputs, timesteps=2)
    assert "without classes, nothing shows that images are prepared as the model wants them" in caplog.text


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> DataSplits:
    path = tmp_path_factory.mktemp("chance") / "data.npz"
    pixels = np.random.default_rng(0).integers(0, 255, (400, 8, 8)).astype(np.uint8)
    np.savez(path, images=pixels, labels=np.arange(400) % 4)
    return load_data(f"npz:{path}")


def test_a_guessed_preprocessing_is_said_with_the_accuracy(
    model: nn.Module, splits: DataSplits, caplog: pytest.LogCaptureFixture
) -> None:
    record = convert(LoadedModel.from_module(model), splits, timesteps=2, check_images=60).manifest
    assert "preprocessing is a guess (1×8×8, mean 0.5007, std 0.2892," in caplog.text
    assert "the ANN is right on" in caplog.text
    assert record["preprocessing_guess"].endswith("measured on the train split")
    caplog.clear()
    stated = splits.with_preprocessing(splits.preprocessing)
    record = convert(LoadedModel.from_module(model), stated, timesteps=2, check_images=60).manifest
    assert "guess" not in caplog.text
    assert "preprocessing_guess" not in record


def test_a_preprocessing_that_is_guessed_for_a_module_is_said_where_the_data_are_named(
    model: nn.Module, splits: DataSplits, caplog: pytest.LogCaptureFixture
) -> None:
    record = convert(model, splits.spec, timesteps=2, force=True).manifest
    assert caplog.text.count("preprocessing is a guess (1×8×8, mean 0.5007, std 0.2892, measured on the") == 1
    assert "preprocessing_guess" in record
    caplog.clear()
    convert(model, splits.spec, timesteps=2, force=True, preprocessing=splits.preprocessing)
    convert(model, splits, timesteps=2, force=True)
    assert "guess" not in caplog.text


def test_a_mean_and_std_of_another_unit_are_refused(model: nn.Module, splits: DataSplits) -> None:
    other = replace(splits.preprocessing, mean=(128.0,), std=(64.0,))
    with pytest.raises(ValueError, match=r"mean 128 and std 64 are of pixels .*: state mean 0\.502, std 0\.251"):
        convert(model, splits, preprocessing=other)
    with pytest.raises(ValueError, match="are of pixels from 0 to 255, expected those of pixel/255"):
        Stated(std=(58.4,)).over(splits.preprocessing)


def test_a_folder_too_small_to_calibrate_says_how_many_images_are_needed(
    model: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("few") / "data.npz"
    pixels = np.random.default_rng(0).integers(0, 255, (120, 8, 8)).astype(np.uint8)
    np.savez(path, images=pixels, labels=np.arange(120) % 4)
    with pytest.raises(CalibrationError, match=r"has 120 images, of which 12 calibrate: .* Bring 160 images or more"):
        convert(model, load_data(f"npz:{path}"), timesteps=2)
