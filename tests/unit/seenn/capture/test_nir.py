"""NIR files as networks, with the dynamics of the library that they were made for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor

import seenn
from seenn.core.ops.leaky_sum import LeakySum
from seenn.errors import CheckpointError, UnsupportedError

RANDOM = np.random.default_rng(0)
WEIGHT, HEAD = RANDOM.normal(size=(3, 1, 3, 3)).astype(np.float32), RANDOM.normal(size=(2, 12)).astype(np.float32)
IMAGES = torch.from_numpy(RANDOM.normal(size=(5, 1, 4, 4)).astype(np.float32)) * 3


def write(path: Path, neuron: Any) -> Path:
    """A convolution, neurons ``[3, 4, 4]``, pooling by sum, and a linear layer."""
    one = np.array([1, 1])
    nodes = {
        "input": nir.Input({"input": np.array([1, 4, 4])}),
        "conv": nir.Conv2d((4, 4), WEIGHT, (1, 1), (1, 1), (1, 1), 1, np.zeros(3, np.float32)),
        "neuron": neuron,
        "pool": nir.SumPool2d(kernel_size=2 * one, stride=2 * one, padding=0 * one),
        "flat": nir.Flatten({"input": np.array([3, 2, 2])}, 0, -1),
        "head": nir.Affine(HEAD, np.zeros(2, np.float32)),
        "output": nir.Output({"output": np.array([2])}),
    }
    names = list(nodes)
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(names))))
    return path


def full(value: float) -> Any:
    return np.full((3, 4, 4), value, np.float32)


def expected(step: Any, timesteps: int) -> Tensor:
    """Mean outputs, from what a neuron is written out as."""
    current, total, state = torch.conv2d(IMAGES, torch.from_numpy(WEIGHT), padding=1), torch.zeros(5, 2), None
    for _ in range(timesteps):
        spikes, state = step(current, state)
        pooled = torch.nn.functional.avg_pool2d(spikes, 2, divisor_override=1)
        total = total + pooled.flatten(1) @ torch.from_numpy(HEAD).T
    return total / timesteps


def leaky(beta: float, gain: float, theta: float) -> Any:
    def step(x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        v = (0 if v is None else beta * v) + gain * x
        spikes = (v > theta).float()
        return spikes, v * (1 - spikes)

    return step


@pytest.mark.parametrize(("dialect", "tau", "r", "gain"), [("norse", 2e-3, 1, 0.5), ("snntorch", 2e-4, 2, 1)])
def test_a_leaky_neuron_is_that_of_its_library(dialect: str, tau: float, r: float, gain: float, tmp_path: Path) -> None:
    node = nir.LIF(tau=full(tau), r=full(r), v_leak=full(0), v_threshold=full(1.5))
    snn = seenn.load(write(tmp_path / "net.nir", node), dialect=dialect)
    torch.testing.assert_close(snn.network(IMAGES, 6), expected(leaky(0.5, gain, 1.5), 6))
    assert snn.predict(IMAGES, timesteps=6).labels.shape == (5,)


def test_a_current_based_neuron_has_a_current_that_decays(tmp_path: Path) -> None:
    node = nir.CubaLIF(tau_syn=full(4e-4), tau_mem=full(2e-4), r=full(2), v_leak=full(0), v_threshold=full(1),
                       w_in=full(4))  # fmt: skip
    snn = seenn.load(write(tmp_path / "net.nir", node), dialect="snntorch")

    def step(x: Tensor, state: Any) -> Any:
        i, v = state or (0, 0)
        i = 0.75 * i + x
        v = 0.5 * v + i
        spikes = (v > 1).float()
        return spikes, (i, v * (1 - spikes))

    torch.testing.assert_close(snn.network(IMAGES, 6), expected(step, 6))
    snn.save(tmp_path / "snn.safetensors")
    torch.testing.assert_close(seenn.load(tmp_path / "snn.safetensors").network(IMAGES, 6), snn.network(IMAGES, 6))


def test_an_integrating_neuron_of_sinabs_fires_several_times_above_a_floor(tmp_path: Path) -> None:
    snn = seenn.load(write(tmp_path / "net.nir", nir.IF(r=full(1), v_threshold=full(0.7))), dialect="sinabs")
    lowest = 0.0

    def step(x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        nonlocal lowest
        v = (0 if v is None else v) + x / 0.7
        spikes = v.floor().clamp(min=0)
        lowest = min(lowest, float((v - spikes).min()))
        return spikes, (v - spikes).clamp(min=-1)

    torch.testing.assert_close(snn.network(IMAGES, 6), expected(step, 6))
    assert lowest < -2


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "net.nir", nir.IF(r=full(1), v_threshold=full(1)))
    with pytest.raises(ValueError, match=r"every library runs otherwise.*dialect=.*got None"):
        seenn.load(path)
    with pytest.raises(UnsupportedError, match="1 nodes cannot be read as snntorch runs them: neuron: it reads IF as"):
        seenn.load(path, dialect="snntorch")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="is not a readable NIR file"):
        seenn.load(path, dialect="sinabs")


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1.0"):
        LeakySum(decay=1.0)
