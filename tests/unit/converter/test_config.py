"""Conversion settings: what is refused, and what manifests record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from converter import ConvertConfig, NeuronSpec, Percentile


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": 0}, "timesteps must be an integer from 1 to 4096, got 0"),
        ({"timesteps": True}, "timesteps must be an integer from 1 to 4096, got True"),
        ({"correction": "magic"}, "correction must be one of none, bias, potential, joint, cos, srp, got 'magic'"),
        ({"silent_channels": "ignore"}, "silent_channels must be borrow or refuse, got 'ignore'"),
        ({"analog_islands": 1}, "analog_islands must be true or false, got 1"),
        ({"correction": "cos"}, "a pre-pass of 1 step or more goes with the corrections cos and srp"),
        ({"prepass": 4}, "and with no other: got 4 with potential"),
        ({"correction": "srp", "prepass": 4}, "srp is for binary neurons"),
        ({"prepass": -1}, "prepass must be an integer from 0 to 4096, got -1"),
        ({"rounds": 0}, "rounds must be 1 to 100, got 0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvertConfig(**options)


def test_neurons_by_the_words_of_the_command_line() -> None:
    assert NeuronSpec.of("if") == NeuronSpec(signed=False, max_spikes=1)
    assert NeuronSpec.of("burst") == NeuronSpec(signed=False, max_spikes=4)
    assert NeuronSpec.of("signed", 2) == NeuronSpec(signed=True, max_spikes=2)
    with pytest.raises(ValueError, match=r"unknown neuron 'brust'\. Did you mean 'burst'"):
        NeuronSpec.of("brust")
    with pytest.raises(ValueError, match="fires at most once a step; for 4 levels use burst or signed"):
        NeuronSpec.of("if", 4)
    with pytest.raises(ValueError, match="for 1 level use if"):
        NeuronSpec.of("burst", 1)
    with pytest.raises(ValueError, match="max_spikes must be an integer from 1 to 127, got 128"):
        NeuronSpec(max_spikes=128)


def test_manifest_form_is_json_and_complete() -> None:
    record = ConvertConfig(recipe=Percentile(q=99.0), neuron=NeuronSpec.of("if"), correction="bias").to_json()
    assert json.loads(json.dumps(record)) == {
        "recipe": {"name": "percentile", "q": 99.0, "per_channel": True},
        "neuron": {"kind": "if", "signed": False, "max_spikes": 1},
        "correction": "bias",
        "prepass": 0,
        "rounds": 2,
        "timesteps": 8,
        "silent_channels": "borrow",
        "analog_islands": False,
    }
