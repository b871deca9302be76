"""What was written for 0.1 still works, and names the new way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import seenn
from seenn import SNN, Batch, ConfidenceExit, FixedExit
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, IFNeuron, Linear

POLICY = ConfidenceExit(threshold=0.6)


def old(name: str, new: str, /, *arguments: Any, **options: Any) -> Any:
    with pytest.warns(DeprecationWarning, match=rf"seenn\.{name} is of seenn 0\.1 and goes with 0\.3: use .*{new}"):
        return getattr(seenn, name)(*arguments, **options)


def test_a_checkpoint_is_an_snn_and_is_saved_by_itself(network: SpikingNetwork, tmp_path: Path) -> None:
    path = tmp_path / "snn.safetensors"
    made = old("Checkpoint", r"seenn\.SNN", network=network, policy=POLICY, manifest={"timesteps": 3}, rounding=None)
    assert isinstance(made, SNN)
    old("save", r"snn\.save\(path\)", path, made)
    found = seenn.load(path)
    assert (found.policy, found.timesteps) == (POLICY, 3)


@pytest.mark.parametrize("given", [lambda images: images, lambda images: images.split(5)])
def test_predict_takes_a_network(network: SpikingNetwork, images: Tensor, given: Callable[[Tensor], Any]) -> None:
    found = old("predict", r"seenn\.load\(path\)\.predict\(images\)", network, given(images), POLICY, timesteps=4)
    expected = SNN(network=network).predict(images, engine="reference", policy=POLICY, timesteps=4)
    assert torch.equal(found.exit_timestep, expected.exit_timestep)
    assert torch.equal(found.labels, expected.labels)


def test_run_reference_takes_a_batch(network: SpikingNetwork, images: Tensor) -> None:
    found = old("run_reference", r"predict\(images, engine=\"reference\"\)", network, images, FixedExit(), 3)
    torch.testing.assert_close(found.logits_sum / 3, network(images, 3))


@pytest.mark.parametrize("by_engine", [False, True])
def test_stream_takes_a_network_or_an_engine(network: SpikingNetwork, images: Tensor, by_engine: bool) -> None:
    network = network.float()
    runs = seenn.make_engine("float32", network, timesteps=4) if by_engine else network
    options = {} if by_engine else {"engine": "float32", "rounding": None}
    found = old("stream", r"stream\(source\)", runs, images.float(), POLICY, timesteps=4, **options)
    expected = SNN(network=network).predict(images.float(), engine="float32", policy=POLICY, timesteps=4)
    assert [answer.exit_timestep for answer in found] == expected.exit_timestep.tolist()


def test_evaluate_takes_a_checkpoint(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (120, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(120) % 5)
    nodes = [
        Node("flatten", Flatten(), (INPUT,)),
        Node("hidden", Linear(torch.eye(36)), ("flatten",)),
        Node("fire", IFNeuron(), ("hidden",)),
        Node("head", Linear(torch.randn(5, 36, generator=torch.Generator().manual_seed(0))), ("fire",)),
    ]
    snn = SNN(network=SpikingNetwork(OpGraph(nodes, "head"), (1, 6, 6)), policy=POLICY, manifest={"timesteps": 3})
    split = seenn.load_data(f"npz:{tmp_path / 'data.npz'}").test
    found = old("evaluate", r"snn\.evaluate\(split\)", snn, split, name="snn", data="mine", class_names=("a",))
    assert found.accuracy == snn.evaluate(split, engine="reference", name="snn").accuracy


def test_exits_are_calibrated_on_collected_logits(network: SpikingNetwork, images: Tensor) -> None:
    labels = torch.arange(12) % 5
    pairs = [(batch.inputs, batch.labels) for batch in Batch(images, labels).split(5)]
    logits_sum, found = old("collect_logits", r"snn\.calibrate_exit\(split\)", network, pairs, 3)
    assert torch.equal(found, labels)
    torch.testing.assert_close(logits_sum[-1] / 3, network(images, 3))
    options = {"max_accuracy_drop": 0.1}
    old_way = old("calibrate_confidence", "calibrate_exit", logits_sum, labels, ConfidenceExit(), **options)
    assert old_way.policy == seenn.exits.calibrate_exit(logits_sum, labels, ConfidenceExit(), **options).policy


def test_every_name_of_0_1_is_there() -> None:
    kept = """CalibrationError CheckpointError ConfidenceExit ConversionError DataError ExitPolicy FixedExit IFNeuron
        LIFNeuron ModelError Prediction Predictions Request SeennError SpikingNetwork ThresholdExit TwoSidedIFNeuron
        UnsupportedError __version__ capture if_step load make_engine register_policy reset signed_if_step
        two_sided_if_step"""
    gone = "Checkpoint calibrate_confidence collect_logits evaluate predict run_reference save stream"
    assert all(hasattr(seenn, name) for name in f"{kept} {gone}".split())
    assert set(kept.split()) <= set(seenn.__all__)


def test_names_of_0_1_that_go_are_not_offered() -> None:
    assert not {"Checkpoint", "predict", "run_reference", "save", "stream"} & set(seenn.__all__)
    with pytest.raises(AttributeError, match="module 'seenn' has no attribute 'nothing'"):
        _ = seenn.nothing
