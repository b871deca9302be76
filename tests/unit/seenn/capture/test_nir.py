"""NIR files as networks, with the dynamics of the library that they were made for."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
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


def test_a_leaky_neuron_of_sinabs_fires_several_times_and_has_no_floor(tmp_path: Path) -> None:
    decay, most, lowest = math.exp(-1 / 4), 0.0, 0.0
    snn = seenn.load(write(tmp_path / "net.nir", lif(tau=4.0, v_threshold=0.3, v_reset=0.2)), dialect="sinabs")

    def step(x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        nonlocal most, lowest
        v = decay * (0 if v is None else v) + x / 0.3
        spikes = v.floor().clamp(min=0)
        most, lowest = max(most, float(spikes.max())), min(lowest, float(v.min()))
        return spikes, v - spikes

    torch.testing.assert_close(snn.network(IMAGES, 6), expected(step, 6))
    assert most > 1
    assert lowest < -1
    snn.save(tmp_path / "snn.safetensors")
    again = seenn.load(tmp_path / "snn.safetensors")
    torch.testing.assert_close(again.network(IMAGES, 6), snn.network(IMAGES, 6), rtol=0, atol=0)
    with pytest.raises(UnsupportedError, match="tau is 0 steps"):
        seenn.load(write(tmp_path / "none.nir", lif(tau=0.0)), dialect="sinabs")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "net.nir", nir.IF(r=full(1), v_threshold=full(1)))
    with pytest.raises(ValueError, match=r"every library runs otherwise.*dialect=.*got None"):
        seenn.load(path)
    with pytest.raises(UnsupportedError, match="1 node cannot be read for snntorch: neuron: it reads IF as"):
        seenn.load(path, dialect="snntorch")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CheckpointError, match="is not a readable NIR file"):
        seenn.load(path, dialect="sinabs")


def lif(tau: float = 4e-3, **changed: float) -> Any:
    values = {"r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **changed}
    return nir.LIF(tau=full(tau), **{key: full(value) for key, value in values.items()})


def cuba(tau_syn: float, tau_mem: float) -> Any:
    return nir.CubaLIF(tau_syn=full(tau_syn), tau_mem=full(tau_mem), r=full(1), v_leak=full(0), v_threshold=full(1))


@pytest.mark.parametrize(
    ("node", "dialect", "said"),
    [
        (lif(2.5e-4), "norse", r"tau is 0\.00025 s, .* a step of norse, 0\.001 s: try --dialect snntorch"),
        (cuba(2.5e-4, 1), "norse", r"tau_syn is 0\.00025 s, .* a step of norse, 0\.001 s: try --dialect snntorch"),
        (cuba(1, 2.5e-5), "snntorch", r"tau_mem is 2\.5e-05 s, .* of snntorch, 0\.0001 s: write the file with longer"),
        (lif(-1), "any", "tau is -1 steps, and must be above 0"),
        (lif(0), "any", "tau is 0 steps, and must be above 0"),
        (lif(np.nan), "norse", "tau is NaN"),
        (lif(np.inf), "any", "tau is NaN, infinite"),
        (lif(1e20), "any", "decay must be in"),
        (lif(v_reset=-0.5), "norse", "norse resets to 0 and ignores v_reset: use v_reset = 0"),
        (lif(v_reset=-0.5), "snntorch", "snntorch resets to 0 and ignores v_reset"),
        (lif(v_reset=2), "any", "v_reset must be below every threshold"),
        (lif(v_threshold=0), "any", "v_threshold is 0, and must be above 0"),
        (lif(r=np.inf), "any", "r is NaN, infinite"),
        (nir.IF(r=full(1), v_threshold=full(-1)), "sinabs", "v_threshold is -1, and must be above 0"),
        (nir.IF(r=full(1), v_threshold=full(np.nan)), "any", "v_threshold is NaN"),
        (cuba(1, 1), "any", "any reads no CubaLIF: use IF, or --dialect norse or snntorch"),
    ],
)
def test_a_neuron_that_cannot_be_is_refused_by_name(node: Any, dialect: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=f"1 node cannot be read for {dialect}: neuron: .*{said}"):
        seenn.load(write(tmp_path / "net.nir", node), dialect=dialect)


@pytest.mark.parametrize(("dialect", "step"), [("norse", 1e-3), ("snntorch", 1e-4)])
def test_a_time_constant_of_one_step_keeps_nothing(dialect: str, step: float, tmp_path: Path) -> None:
    """In float32, 1e-4 is a little less than 1e-4."""
    snn = seenn.load(write(tmp_path / "net.nir", lif(step, r=1, v_threshold=1.5)), dialect=dialect)
    torch.testing.assert_close(snn.network(IMAGES, 6), expected(leaky(0, 1, 1.5), 6))


@pytest.mark.parametrize("name", ["conv", "head"])
@pytest.mark.parametrize("field", ["weight", "bias"])
def test_weights_that_are_no_numbers_are_refused_by_name(name: str, field: str, tmp_path: Path) -> None:
    path = write(tmp_path / "net.nir", lif())
    with h5py.File(path, "r+") as file:
        file[f"node/nodes/{name}/{field}"][...] = np.nan
    with pytest.raises(UnsupportedError, match=f"1 node .*: {name}: {field} is NaN, infinite or beyond float32"):
        seenn.load(path, dialect="any")


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1.0"):
        LeakySum(decay=1.0)
