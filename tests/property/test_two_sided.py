"""Laws of the neuron that stands for leaky activations, over all inputs; see seenn.core.ops.leaky_relu_neuron."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seenn.core.ops import IFNeuron, LeakyReLU, Neuron, TwoSidedIFNeuron

# Sixteenths times quarters, in float64: near whole numbers everything is exact, so that equality can be asked for.
sixteenths = st.integers(-160, 160).map(lambda n: n / 16)
thresholds = st.integers(1, 64).map(lambda n: n / 16)
slopes = st.integers(-8, 8).map(lambda n: n / 4)
varying = st.integers(1, 6).flatmap(
    lambda c: st.lists(st.lists(sixteenths, min_size=c, max_size=c), min_size=1, max_size=16)
)


@torch.no_grad()
def run(neuron: Neuron, currents: Tensor) -> tuple[Tensor, Tensor]:
    """Counts ``[T, C]`` and the last membrane of currents ``[T, C]``."""
    neuron = neuron.double()
    state = neuron.initial_state(currents[:1])
    counts = []
    for x in currents:
        count, state = neuron.fire(x[None], state)
        counts.append(count[0])
    return torch.stack(counts), state[0][0]


def leaky(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


@given(
    x=st.lists(sixteenths, min_size=1, max_size=8),
    theta=thresholds,
    slope=slopes,
    timesteps=st.integers(1, 40),
    max_spikes=st.integers(1, 6),
)
def test_constant_input_gives_the_quantised_leaky_activation(
    x: list[float], theta: float, slope: float, timesteps: int, max_spikes: int
) -> None:
    current = torch.tensor(x, dtype=torch.float64)
    counts, _ = run(TwoSidedIFNeuron(theta, slope=slope, max_spikes=max_spikes), current.expand(timesteps, -1))
    most = timesteps * max_spikes
    levels = (timesteps * leaky(current, slope) / theta + 0.5).floor().clamp(-most, most)
    assert torch.equal(counts.sum(0), levels)


@given(x=varying, theta=thresholds, slope=slopes, max_spikes=st.integers(1, 6))
def test_spikes_and_membrane_account_for_the_activation_of_all_charge(
    x: list[list[float]], theta: float, slope: float, max_spikes: int
) -> None:
    currents = torch.tensor(x, dtype=torch.float64)
    counts, last = run(TwoSidedIFNeuron(theta, slope=slope, max_spikes=max_spikes), currents)
    assert torch.equal(leaky(currents.sum(0), slope), last - theta / 2 + theta * counts.sum(0))
    assert bool((counts.abs() <= max_spikes).all())


@given(x=varying, theta=thresholds, max_spikes=st.integers(1, 4))
def test_without_a_slope_it_fires_as_the_signed_neuron_does(
    x: list[list[float]], theta: float, max_spikes: int
) -> None:
    currents = torch.tensor(x, dtype=torch.float64)
    expected, _ = run(IFNeuron(theta, signed=True, max_spikes=max_spikes), currents)
    assert torch.equal(run(TwoSidedIFNeuron(theta, slope=0.0, max_spikes=max_spikes), currents)[0], expected)


@settings(max_examples=20)
@given(x=varying, slope=slopes, max_spikes=st.integers(1, 4))
def test_it_settles_on_the_rounded_activation_once_input_stops(
    x: list[list[float]], slope: float, max_spikes: int
) -> None:
    noisy = torch.tensor(x, dtype=torch.float64)
    stopped = torch.cat([noisy, noisy.new_zeros(330, noisy.shape[1])])
    counts, _ = run(TwoSidedIFNeuron(1.0, slope=slope, max_spikes=max_spikes), stopped)
    assert torch.equal(counts.sum(0), (leaky(noisy.sum(0), slope) + 0.5).floor())


def test_error_falls_as_one_over_t() -> None:
    x = torch.empty(2000, dtype=torch.float64).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    for timesteps in (8, 32, 128):
        counts, _ = run(TwoSidedIFNeuron(1.0, slope=0.25), x.expand(timesteps, -1))
        error = (counts.mean(0) - leaky(x, 0.25)).abs()
        assert float(error.max()) <= 0.5 / timesteps + 1e-12
        assert float(error.mean()) == pytest.approx(0.25 / timesteps, rel=0.1)


def test_slopes_per_channel_bias_and_the_way_back() -> None:
    slope = torch.tensor([0.5, -1.0, 0.0])
    neuron = TwoSidedIFNeuron(torch.tensor([0.5, 1.0, 2.0]), bias=torch.tensor([-0.25, 0.0, 0.0]), slope=slope)
    counts, _ = run(neuron, torch.tensor([[-1.75, -1.0, -1.0]], dtype=torch.float64).expand(4, -1))
    assert counts.sum(0).tolist() == [-4.0, 4.0, 0.0]  # at most one a step; the absolute value; the ReLU
    activation = neuron.activation()
    assert isinstance(activation, LeakyReLU)
    assert not activation.monotone
    assert torch.equal(activation.slope, slope.double())


def test_gradients_reach_threshold_and_input() -> None:
    neuron = TwoSidedIFNeuron(1.0, slope=0.25, max_spikes=2)
    x = torch.linspace(-3, 3, 7)[None].requires_grad_()
    output = neuron(x) + neuron(x)
    output.sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())
    assert neuron.v_threshold.grad is not None


def test_slope_must_be_finite() -> None:
    with pytest.raises(ValueError, match="slope must be finite everywhere"):
        TwoSidedIFNeuron(slope=float("nan"))
