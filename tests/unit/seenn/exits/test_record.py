"""A policy belongs to a network, a T and an engine."""

from __future__ import annotations

import json

import pytest

from seenn.core.network import SpikingNetwork
from seenn.errors import CalibrationError
from seenn.exits import ConfidenceExit
from seenn.exits.record import check_record
from seenn.snn import SNN

RECORD = {
    "policy": {"policy": "confidence", "threshold": 0.8, "temperature": 1.0, "accumulation": "sum"},
    "network": "a" * 64,
    "timesteps": 3,
    "engine": "int8",
    "split": "exit",
    "accuracy": 0.9,
}


def test_the_record_is_json_of_the_policy_and_what_it_was_made_for(network: SpikingNetwork) -> None:
    policy = ConfidenceExit(threshold=0.8)
    found = SNN(network=network).with_policy(policy, timesteps=3, engine="int8", accuracy=0.9)
    assert (found.policy, found.timesteps) == (policy, 3)
    assert json.loads(json.dumps(found.manifest["exit"])) == RECORD | {"network": network.graph.fingerprint()}


def test_a_policy_for_another_network_or_t_is_refused() -> None:
    assert check_record(RECORD, network="a" * 64, timesteps=3) is None
    message = r"confidence exit policy was made for another network .*weights have changed since. Run `seenn calibrate"
    with pytest.raises(CalibrationError, match=message):
        check_record(RECORD, network="b" * 64, timesteps=3)
    message = r"made for 3 timesteps, and 4 are asked for: run 3, or make one with `seenn calibrate-exit --timesteps 4`"
    with pytest.raises(CalibrationError, match=message):
        check_record(RECORD, network="a" * 64, timesteps=4)
    trained = RECORD | {"policy": {"policy": "seenn-ii"}}
    with pytest.raises(CalibrationError, match="make one with `seenn train-policy --timesteps 4`"):
        check_record(trained, network="a" * 64, timesteps=4)


def test_another_engine_than_the_calibrations_is_said() -> None:
    assert check_record(RECORD, network="a" * 64, timesteps=3, engine="int8") is None
    assert check_record(RECORD, network="a" * 64, timesteps=3, engine="float32") == (
        "the confidence exit policy was calibrated on the int8 engine and runs on float32: exits may differ; "
        "calibrate again with --engine float32"
    )


@pytest.mark.parametrize("record", [None, "x", [], {}, {"policy": "confidence"}, {"policy": ["x"], "engine": 3}])
def test_without_a_record_there_is_nothing_to_check(record: object) -> None:
    assert check_record(record, network="a" * 64, timesteps=3, engine="int8") is None


def test_running_on_another_engine_warns(network: SpikingNetwork, caplog: pytest.LogCaptureFixture) -> None:
    snn = SNN(network=network).with_policy(ConfidenceExit(), timesteps=3, engine="reference")
    snn.session("reference")
    assert not caplog.records
    snn.session("float32")
    assert "calibrated on the reference engine and runs on float32: exits may differ" in caplog.text
