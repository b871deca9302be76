"""Conversion settings: what is refused, and what manifests record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from converter import ConvertConfig, Percentile
from seenn.errors import PluginError
from seenn.neurons import NEURONS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": 0}, "timesteps must be an integer from 1 to 4096, got 0"),
        ({"timesteps": True}, "timesteps must be an integer from 1 to 4096, got True"),
        ({"silent_channels": "ignore"}, "silent_channels must be borrow or refuse, got 'ignore'"),
        ({"strict": 1}, "strict must be true or false, got 1"),
        ({"encoder_levels": 128}, "encoder_levels must be an integer from 1 to 127, got 128"),
        ({"correction": "cos", "neuron": "if", "initial_steps": 0}, "1 initial step or more goes with corrections"),
        ({"initial_steps": 4}, "and with no other: got 4 with potential"),
        ({"correction": "srp", "initial_steps": 4}, "srp is for if neurons, got signed"),
        ({"initial_steps": -1}, "initial_steps must be an integer from 0 to 4096, got -1"),
        ({"rounds": 0}, "rounds must be an integer from 1 to 100, got 0"),
        ({"neuron": "lif"}, "lif neurons stand for no activation: use them with `seenn train-direct`"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvertConfig(**options)


def test_levels_are_those_of_the_kind_of_neuron() -> None:
    kinds = {name: NEURONS.get(name) for name in ("burst", "if", "lif", "signed")}
    assert set(kinds) <= set(NEURONS.names())
    assert {name: kind.levels() for name, kind in kinds.items()} == {"burst": 4, "if": 1, "lif": 1, "signed": 4}
    assert ConvertConfig(neuron="signed", levels=2).max_spikes == 2
    for name, levels, message in (
        ("if", 4, "if neurons take levels of 1, got 4: use burst or signed for others"),
        ("burst", 1, "burst neurons take levels of 2 to 127, got 1: use if for others"),
        ("signed", 128, "signed neurons take levels of 1 to 127, got 128"),
        ("signed", True, "got True"),
    ):
        with pytest.raises(ValueError, match=message):
            ConvertConfig(neuron=name, levels=levels)


def test_names_stand_for_defaults_and_unknown_ones_are_refused() -> None:
    assert ConvertConfig(recipe="percentile").recipe == Percentile()  # type: ignore[arg-type]
    for options in ({"recipe": "mmsee"}, {"neuron": "brust"}, {"correction": "magic"}):
        with pytest.raises(PluginError, match=r"unknown \w+ '\w+'\. (Did you mean|Choose one of)"):
            ConvertConfig(**options)  # type: ignore[arg-type]


def test_what_is_left_out_goes_with_the_rest_and_with_the_model() -> None:
    assert ConvertConfig.suited() == ConvertConfig()
    assert ConvertConfig.suited(correction="cos", neuron=None) == ConvertConfig(correction="cos", neuron="if")
    assert ConvertConfig(correction="cos", neuron="if").steps_before == 8
    qcfs = ConvertConfig.suited(qcfs_levels=4, timesteps=2)
    assert (qcfs.recipe.name, qcfs.neuron, qcfs.correction, qcfs.timesteps) == ("qcfs", "if", "none", 2)


def test_manifest_form_is_json_and_complete() -> None:
    record = ConvertConfig(recipe=Percentile(q=99.0), neuron="if", correction="bias").to_json()
    assert json.loads(json.dumps(record)) == {
        "recipe": {"name": "percentile", "q": 99.0, "per_channel": True},
        "neuron": {"kind": "if", "signed": False, "max_spikes": 1},
        "correction": "bias",
        "prepass": 0,
        "rounds": 2,
        "timesteps": 8,
        "silent_channels": "borrow",
        "encoder_levels": 15,
        "coding": "rate",
        "strict": False,
    }
