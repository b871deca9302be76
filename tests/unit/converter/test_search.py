"""As good as asked: which levels and timesteps are tried, in which order, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter import ConvertConfig, convert
from converter.search import Goal, candidates
from seenn.batch import Batch
from seenn.errors import CalibrationError, ConversionError


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(120, 3, 8, 8, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def undecided(net: nn.Module, pictures: Tensor) -> nn.Module:
    """A network whose answers differ from image to image, by little."""
    with torch.no_grad():
        net[-1].bias -= net(pictures).mean(0)  # type: ignore[index, union-attr, operator]
    return net


def spikes(config: ConvertConfig) -> int:
    return config.timesteps * config.max_spikes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(1, 4), (2, 4), (4, 4), (8, 4), (15, 4), (31, 4), (63, 4), (127, 4), (127, 8), (127, 16)]),
        ({"timesteps": 8}, [(n, 8) for n in (1, 2, 4, 8, 15, 31, 63, 127)]),
        ({"levels": 4, "encoder_levels": 15}, [(4, t) for t in (1, 2, 4, 8, 16, 32, 64)]),
        ({"levels": 4, "encoder_levels": 15, "timesteps": 8}, [(4, 8)]),
        ({"neuron": "if", "encoder_levels": 15}, [(1, t) for t in (1, 2, 4, 8, 16, 32, 64)]),
    ],
)
def test_candidates_come_fewest_spikes_first(options: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    found = candidates(ConvertConfig(**options), fixed=options)
    assert [(one.max_spikes, one.timesteps) for one in found] == expected
    assert [spikes(one) for one in found] == sorted(map(spikes, found))


def test_encoders_get_as_many_levels_unless_they_are_given() -> None:
    assert {c.encoder_levels == c.levels for c in candidates(ConvertConfig(), fixed=())} == {True}
    assert {c.encoder_levels for c in candidates(ConvertConfig(encoder_levels=7), fixed={"encoder_levels"})} == {7}


def test_the_fewest_spikes_that_agree_are_picked(undecided: nn.Module, pictures: Tensor) -> None:
    snn = convert(undecided, pictures, min_agreement=0.95, correction="none", calibration_images=60)
    record = json.loads(json.dumps(snn.manifest))
    tried = {(one["levels"], one["timesteps"]): one["agreement"] for one in record["goal"]["tried"]}
    picked = record["conversion"]["neuron"]["max_spikes"], record["timesteps"]
    assert record["goal"]["min_agreement"] == 0.95
    assert record["check"]["agreement"] == tried[picked] >= 0.95
    assert picked[0] > 1
    assert all(
        agreement < 0.95 for (levels, steps), agreement in tried.items() if levels * steps < picked[0] * picked[1]
    )


def test_an_accuracy_that_may_be_lost_is_a_goal_too(undecided: nn.Module, pictures: Tensor) -> None:
    with torch.no_grad():
        labels = undecided(pictures).argmax(-1)
    snn = convert(undecided, Batch(pictures, labels), max_accuracy_drop=0.0, calibration_images=60)
    check = snn.manifest["check"]
    assert check["accuracy_per_timestep"][-1] >= check["ann_accuracy"] == 1.0


def test_what_cannot_be_reached_is_refused_with_the_best(undecided: nn.Module, pictures: Tensor) -> None:
    options: dict[str, Any] = {
        "neuron": "if",
        "recipe": "max",
        "correction": "none",
        "timesteps": 1,
        "calibration_images": 60,
    }
    with pytest.raises(ConversionError, match=r"min_agreement 1\.0 is not reached; the best is T = 1 .*agreement \d\d"):
        convert(undecided, pictures, min_agreement=1.0, **options)


def test_goals_without_what_judges_them_are_refused(net: nn.Module, pictures: Tensor) -> None:
    with pytest.raises(
        ConversionError, match=r"no accuracy is known of images without labels, .*: ask for agreement instead"
    ):
        convert(net, pictures, max_accuracy_drop=0.01, timesteps=2, levels=1, encoder_levels=1)
    with pytest.raises(CalibrationError, match="leaves no image to judge the conversion on"):
        convert(net, pictures, min_agreement=0.9, calibration_images=120)
    with pytest.raises(ValueError, match="give config, or min_agreement and max_accuracy_drop"):
        convert(net, pictures, ConvertConfig(), min_agreement=0.9)
    with pytest.raises(ValueError, match="min_agreement is a share from 0 to 1, got 98"):
        Goal(min_agreement=98)
