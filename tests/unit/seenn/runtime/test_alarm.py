"""Networks that warn where images are unlike those that their exits were calibrated on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_snn import deep_network
from torch import Tensor

import seenn
from seenn import SNN, CheckpointError, ConfidenceExit, IFNeuron, SpikingNetwork
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import Flatten, Linear
from seenn.exits.guarantees.drift import MarginRecord
from seenn.runtime import DriftAlarm

WARNING = "the images, {} so far, are unlike those that exits were calibrated on (false-alarm rate 0.01)"


PATTERNS = torch.rand(3, 64, generator=torch.Generator().manual_seed(0)) > 0.5


def pictures(count: int, seed: int, *, contrast: float = 1.0) -> Tensor:
    """One of three patterns each, and as much noise."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 64, generator=random) - 0.5
    labels = torch.randint(3, (count,), generator=random)
    return (contrast * (PATTERNS[labels] + noise)).view(-1, 1, 8, 8)


@pytest.fixture(scope="module")
def snn() -> SNN:
    """Its neurons look for the patterns."""
    nodes = [
        Node("flat", Flatten(), (INPUT,)),
        Node("hidden", Linear((PATTERNS.float() - 0.5) / 8), ("flat",)),
        Node("relu", IFNeuron(0.1, max_spikes=16), ("hidden",)),
        Node("head", Linear(torch.eye(3)), ("relu",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False)
    images, labels = pictures(600, 0), torch.arange(600) % 3
    plain = SNN(network=network, manifest={"timesteps": 4})
    return plain.calibrate_exit((images, labels), "gap", engine="float32", target_timesteps=2.0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "unlike" in record.getMessage()]


def test_images_of_the_same_kind_raise_no_alarm_and_others_do(snn: SNN, caplog: pytest.LogCaptureFixture) -> None:
    snn.predict(pictures(600, 1), engine="float32")
    list(snn.stream(iter(pictures(600, 2)), engine="float32"))
    assert not warnings(caplog)
    found = snn.predict(pictures(128, 3, contrast=0.7), engine="float32")
    assert len(found) == 128
    (warning,) = warnings(caplog)
    assert warning.startswith(WARNING.format(128))
    assert warning.endswith("no guarantee holds for them; run `seenn calibrate-exit` on recent images")
    snn.predict(pictures(128, 3, contrast=0.7), engine="float32", alarm=0)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("options", [{}, {"ordered": False}, {"slots": 1}, {"deadline_ms": 1e-3}])
def test_a_stream_warns_once_while_it_runs(snn: SNN, caplog: pytest.LogCaptureFixture, options: dict[str, Any]) -> None:
    source = torch.cat([pictures(320, 4), pictures(640, 5, contrast=0.7)])
    warned_at = []
    for number, _ in enumerate(snn.stream(iter(source), engine="float32", **options)):
        if warnings(caplog) and not warned_at:
            warned_at.append(number)
    assert len(warnings(caplog)) == 1
    assert 320 < warned_at[0] < 320 + 192


def test_one_alarm_may_watch_many_small_calls(snn: SNN, caplog: pytest.LogCaptureFixture) -> None:
    session = snn.session("float32")
    alarm = snn.drift_alarm(session, 0.001, in_order=True)
    assert alarm is not None
    for image in pictures(160, 6, contrast=0.7):
        snn.predict(image, engine="float32")
    assert not warnings(caplog)
    for image in pictures(160, 6, contrast=0.7):
        snn.predict(image, engine="float32", alarm=alarm)
    assert alarm.raised
    assert len(warnings(caplog)) == 1
    found = alarm.to_json()
    assert found == {"alarm": True, "p_value": alarm.p_value, "false_alarm_rate": 0.001, "images": 160}


def test_the_record_travels_with_the_policy(snn: SNN, tmp_path: Path) -> None:
    snn.save(tmp_path / "a.safetensors")
    loaded = seenn.load(tmp_path / "a.safetensors")
    assert loaded.manifest["exit"]["margins"] == snn.manifest["exit"]["margins"]
    alarm = loaded.drift_alarm(loaded.session("float32"))
    assert alarm is not None
    assert MarginRecord.from_json(loaded.manifest["exit"]["margins"]).samples == 600
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_nothing_is_said_where_nothing_is_known(snn: SNN, caplog: pytest.LogCaptureFixture) -> None:
    record = {name: value for name, value in snn.manifest["exit"].items() if name != "margins"}
    old = replace(snn, manifest={**snn.manifest, "exit": record})
    plain = replace(snn, policy=None)
    assert snn.drift_alarm(snn.session("float32")) is not None
    for network, session in (
        (old, old.session("float32")),
        (plain, plain.session("float32")),
        (snn, snn.session("reference")),
        (snn, snn.session("float32", policy=ConfidenceExit(threshold=0.5))),
    ):
        assert network.drift_alarm(session) is None
    old.predict(pictures(300, 7, contrast=0.5), engine="float32")
    assert not warnings(caplog)


def test_a_damaged_record_is_refused(snn: SNN) -> None:
    damaged = replace(snn, manifest={**snn.manifest, "exit": {**snn.manifest["exit"], "margins": {"samples": 3}}})
    with pytest.raises(CheckpointError, match="margins beside the exit policy is damaged"):
        damaged.predict(pictures(2, 0), engine="float32")


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(snn: SNN, rate: float) -> None:
    with pytest.raises(ValueError, match="rate of false alarms is a probability between 0 and 1, got"):
        snn.drift_alarm(snn.session("float32"), rate)


def test_networks_with_heads_are_watched_at_their_first_head(caplog: pytest.LogCaptureFixture) -> None:
    network = deep_network()
    random = torch.Generator().manual_seed(0)
    shape = (300, *network.input_shape)
    snn = SNN(network=network, manifest={"timesteps": 3})
    images, labels = torch.rand(shape, generator=random), torch.arange(300) % 3
    snn = snn.calibrate_exit((images, labels), "gap", engine="float32", target_timesteps=1.0)
    alarm = snn.drift_alarm(snn.session("float32"))
    assert isinstance(alarm, DriftAlarm)
    snn.predict(torch.rand(shape, generator=random), engine="float32", alarm=alarm)
    assert (alarm.test.samples, alarm.raised) == (300, False)
    snn.predict(4 * torch.rand(shape, generator=random), engine="float32")
    assert len(warnings(caplog)) == 1
