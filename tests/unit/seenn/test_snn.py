"""What a person holds: in Python, and in print."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_snn import tiny_snn
from torch import Tensor

from seenn import SNN, ConfidenceExit, FixedExit, load_data
from seenn.core.network import SpikingNetwork
from seenn.data import as_split
from seenn.errors import DataError


def test_arrays_of_floats_are_images_as_tensors_are(network: SpikingNetwork, images: Tensor) -> None:
    snn = SNN(network=network)
    expected = snn.predict(images[:4].float(), engine="float32").logits_sum
    for given in (images[:4].numpy(), images[:4].float().numpy()):
        assert torch.equal(snn.predict(given, engine="float32").logits_sum, expected)
    assert [p.label for p in snn.stream(images[:4].numpy(), engine="float32")] == expected.argmax(-1).tolist()
    with pytest.raises(DataError, match="got an array of uint8: give prepared floating-point tensors or arrays"):
        snn.predict(images[:4].byte().numpy())


def test_a_policy_is_no_name(network: SpikingNetwork, images: Tensor) -> None:
    with pytest.raises(TypeError, match=r"policy is a str; expected an exit policy, such as seenn.ConfidenceExit"):
        SNN(network=network).predict(images, policy="confidence")  # type: ignore[arg-type]


IMAGES, LABELS = torch.rand(8, 2, 6, 6), torch.tensor([0, 1] * 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"calibrate_exit needs samples that nothing else has seen: give seenn.load_data"),
        ({"policy": "entropy"}, r"calibrate_exit takes no policy: the exit rule is its second argument, rule="),
        ({"split": IMAGES, "threshhold": 0.5}, r"takes no threshhold: .* targets are max_accuracy_drop, target_timest"),
        ({"split": IMAGES, "max_accuracy_drop": 0.1}, r"needs their labels as well, a pair: .*risk=\"disagreement\""),
        ({"split": (IMAGES, LABELS), "rule": 5}, r"rule is 5; expected a name, such as 'confidence'"),
        ({"split": (IMAGES, LABELS), "rule": ConfidenceExit}, r"rule is the class ConfidenceExit; expected a name"),
    ],
)
def test_calibration_says_which_argument_is_wrong(
    network: SpikingNetwork, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        SNN(network=network).calibrate_exit(**arguments)


def test_a_threshold_and_a_target_are_not_given_together(network: SpikingNetwork) -> None:
    with pytest.raises(ValueError, match="give a threshold, or a target that one is found for, not both"):
        SNN(network=network).calibrate_exit((IMAGES, LABELS), threshold=0.5, max_accuracy_drop=0.1)


def test_arrays_that_exits_were_calibrated_on_are_no_test_data() -> None:
    pixels = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    calibrated = tiny_snn().calibrate_exit((pixels, labels), threshold=0.5)
    for part in (pixels.flip(0), pixels[3:], torch.cat([pixels[:1], 255 - pixels])):
        shared = 1 if len(part) > 12 else len(part)
        with pytest.raises(DataError, match=f"shares {shared} of {len(part)} images with those that .* exit took"):
            calibrated.evaluate((part, torch.arange(len(part)) % 3))
    assert calibrated.evaluate((255 - pixels, labels)).samples == 12
    calibrated.calibrate_exit((pixels, labels), threshold=0.6)


def test_splits_of_a_data_set_give_the_one_that_is_meant() -> None:
    data = load_data("digits")
    snn = tiny_snn()
    assert as_split(data, "exit") is data.exit
    assert as_split(data, "test") is data.test
    with pytest.raises(TypeError, match=r"compare_exits takes the DataSplits of seenn\.load_data, got Split"):
        snn.compare_exits(data.test)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", ["predict", "evaluate", "calibrate_exit", "make_engine", "session"])
def test_no_steps_are_not_the_default(use: str) -> None:
    pixels = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given: dict[str, tuple[Any, ...]] = {
        "predict": (pixels,),
        "evaluate": ((pixels, torch.arange(12) % 3),),
        "calibrate_exit": ((pixels, torch.arange(12) % 3), "confidence"),
    }
    with pytest.raises(ValueError, match=r"timesteps must be an integer from 1 to \d+, got 0"):
        getattr(tiny_snn(), use)(*given.get(use, ()), timesteps=0)


def test_prints_as_one_line(network: SpikingNetwork) -> None:
    snn = SNN(network=network, manifest={"timesteps": 3}, policy=FixedExit(timesteps=2))
    assert repr(snn) == "<SNN: 2 neuron sites, inputs [2, 6, 6], T = 3, FixedExit(timesteps=2, segment=None)>"
