"""Specs as data, and modules passed in as they are."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from converter.load import LoadedModel, ModelSpec
from seenn.errors import CheckpointError, ModelError


def test_record_is_json_and_rebuilds_the_same_spec() -> None:
    kwargs = {"channels": (1, 2), "layers": [1, 2], "act_layer": "relu", "scale": 0.5}
    spec = ModelSpec(name="resnet18", kwargs=kwargs, num_classes=7, in_chans=1, stem="cifar")
    assert ModelSpec.from_record(json.loads(json.dumps(spec.to_record()))) == spec


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": ""}, "the model name is empty"),
        ({"stem": "small"}, "stem must be one of auto, imagenet, cifar, got 'small'"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
        ({"in_chans": True}, "in_chans must be a positive integer, got True"),
        ({"kwargs": {"pretrained": True, "in_chans": 1}}, "may not hold in_chans, pretrained"),
        ({"name": "torchvision:resnet18", "kwargs": {"weights": None}}, "may not hold weights"),
        ({"name": "own:net", "kwargs": {"pretrained": True, "weights": None}}, "may not hold pretrained;"),
        ({"kwargs": {"act_layer": nn.ReLU}}, "must be Python literals, which act_layer is not"),
        ({"kwargs": {"scale": math.nan}}, "must be Python literals, which scale is not"),
    ],
)
def test_wrong_fields_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSpec(**{"name": "resnet18", **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        {"name": 3},
        {"name": "a", "colour": "red"},
        {"name": "a", "kwargs": {"x": "__import__('os')"}},
        {"name": "a", "kwargs": [1]},
        {"name": "a", "kwargs": {"checkpoint_path": "'/etc/passwd'"}},
    ],
)
def test_damaged_or_hostile_record_is_refused(record: object) -> None:
    with pytest.raises(CheckpointError, match="the recorded model cannot be read"):
        ModelSpec.from_record(record)


def test_module_is_taken_as_it_is_and_the_callers_own_stays_in_training_mode() -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    x = torch.ones(1, 2, 6, 6)
    module(x)
    loaded = LoadedModel.from_module(module)
    assert module.training
    assert not loaded.module.training
    assert torch.equal(loaded.module(x), module(x))
    assert (loaded.spec.in_chans, loaded.spec.num_classes, loaded.spec.stem) == (2, 5, "imagenet")


def test_module_of_linear_layers_has_no_channels() -> None:
    spec = LoadedModel.from_module(nn.Sequential(nn.Flatten(), nn.Linear(8, 3))).spec
    assert (spec.in_chans, spec.num_classes) == (None, 3)


def test_module_without_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="ReLU has no convolution and no linear layer"):
        LoadedModel.from_module(nn.ReLU())
