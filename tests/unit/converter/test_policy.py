"""SEENN-II as one call: a network in, the same network with a policy out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import seenn
from converter import convert, train_policy
from converter.policy import PolicySpec, spiking_answers
from seenn.data import DataSplits, load_data
from seenn.training import PolicyConfig, TrainConfig

T = 3
CONFIG = PolicyConfig(train=TrainConfig(epochs=1, batch_size=32, label_smoothing=0.0))


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> DataSplits:
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = random.integers(0, 160, (200, 8, 8)) + 40 * labels[:, None, None]
    path = tmp_path_factory.mktemp("policy") / "data.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return load_data(f"npz:{path}")


@pytest.fixture(scope="module")
def snn(splits: DataSplits) -> seenn.SNN:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 2))
    return convert(module, splits, timesteps=T, neuron="if")


def test_a_policy_is_stored_with_its_figures(snn: seenn.SNN, splits: DataSplits, tmp_path: Path) -> None:
    answers = spiking_answers(snn, splits, T, limit=40, keep=tmp_path / "answers.safetensors")
    assert answers.train.shape == (T, 40)
    assert answers.exit.shape == (T, len(splits.exit))
    made = train_policy(snn, splits, CONFIG, spec=PolicySpec(kwargs={"width": 4}), answers=answers)
    record = made.manifest["exit"]
    assert (record["samples"], record["training_samples"], record["timesteps"]) == (len(splits.exit), 40, T)
    assert record["network"] == snn.network.graph.fingerprint()
    assert record["training"]["epochs_run"] == 1
    assert 1 <= record["mean_timesteps"] <= T
    assert snn.policy is None
    made.save(tmp_path / "snn.safetensors")
    images = splits.test.batch(limit=8).inputs
    loaded = seenn.load(tmp_path / "snn.safetensors")
    assert torch.equal(loaded.predict(images).exit_timestep, made.predict(images).exit_timestep)


def test_answers_are_kept_for_this_network_and_these_timesteps_only(
    snn: seenn.SNN, splits: DataSplits, tmp_path: Path
) -> None:
    keep, runs = tmp_path / "answers.safetensors", []

    def answers(timesteps: int) -> None:
        runs.append(0)
        spiking_answers(snn, splits, timesteps, limit=8, keep=keep, progress=lambda done, total: runs.append(done))

    answers(T)
    assert len(runs) > 1
    runs.clear()
    answers(T)
    assert len(runs) == 1
    answers(T - 1)
    assert len(runs) > 2
