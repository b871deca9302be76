"""Laws of the neuron, over all inputs; sources in seenn.core.ops.neuron."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seenn.core.ops import IFNeuron

# Sixteenths: sums, thresholds and quotients near whole numbers are exact, so that equality can be asked for.
sixteenths = st.integers(-160, 160).map(lambda n: n / 16)
thresholds = st.integers(1, 64).map(lambda n: n / 16)


@torch.no_grad()
def run(neuron: IFNeuron, currents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts ``[T, C]``, first and last membrane, of currents ``[T, C]``."""
    neuron = neuron.double()
    state = neuron.initial_state(currents[:1])
    first, counts = state[0], []
    for x in currents:
        count, state = neuron.fire(x[None], state)
        counts.append(count[0])
    return torch.stack(counts), first[0], state[0][0]


@given(
    x=st.lists(sixteenths, min_size=1, max_size=8),
    theta=thresholds,
    timesteps=st.integers(1, 40),
    signed=st.booleans(),
    max_spikes=st.integers(1, 6),
)
def test_constant_input_gives_qcfs_with_t_levels(
    x: list[float], theta: float, timesteps: int, signed: bool, max_spikes: int
) -> None:
    current = torch.tensor(x, dtype=torch.float64)
    counts, _, _ = run(IFNeuron(theta, signed=signed, max_spikes=max_spikes), current.expand(timesteps, -1))
    levels = (timesteps * current / theta + 0.5).floor().clamp(0, timesteps * max_spikes)
    assert torch.equal(counts.sum(0) * theta / timesteps, theta * levels / timesteps)


varying = st.integers(1, 12).flatmap(
    lambda c: st.lists(st.lists(sixteenths, min_size=c, max_size=c), min_size=1, max_size=24)
)


@given(x=varying, theta=thresholds, signed=st.booleans(), max_spikes=st.integers(1, 6))
def test_soft_reset_conserves_charge_and_counts_stay_in_range(
    x: list[list[float]], theta: float, signed: bool, max_spikes: int
) -> None:
    currents = torch.tensor(x, dtype=torch.float64)
    counts, first, last = run(IFNeuron(theta, signed=signed, max_spikes=max_spikes), currents)
    assert torch.equal(currents.sum(0), last - first + theta * counts.sum(0))
    assert bool((counts <= max_spikes).all())
    assert bool((counts >= (-max_spikes if signed else 0)).all())
    assert bool((counts.cumsum(0) >= 0).all())  # a signed neuron takes back only what it fired


@settings(max_examples=30)
@given(x=varying, theta=st.integers(16, 64).map(lambda n: n / 16), max_spikes=st.integers(1, 4))
def test_signed_neuron_settles_on_the_rounded_clipped_charge_once_input_stops(
    x: list[list[float]], theta: float, max_spikes: int
) -> None:
    noisy = torch.tensor(x, dtype=torch.float64)
    counts, _, _ = run(
        IFNeuron(theta, signed=True, max_spikes=max_spikes), torch.cat([noisy, noisy.new_zeros(250, noisy.shape[1])])
    )
    assert torch.equal(counts.sum(0), (noisy.sum(0) / theta + 0.5).floor().clamp(min=0))


@pytest.mark.parametrize("signed", [False, True])
def test_error_falls_as_one_over_t(signed: bool) -> None:
    x = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for timesteps in (8, 32, 128):
        counts, _, _ = run(IFNeuron(1.0, signed=signed), x.expand(timesteps, -1))
        error = (counts.mean(0) - x).abs()
        assert float(error.max()) <= 0.5 / timesteps + 1e-12
        assert float(error.mean()) == pytest.approx(0.25 / timesteps, rel=0.1)


@given(theta=st.floats(1e-6, 1e6), signed=st.booleans())
def test_fires_exactly_at_the_threshold_and_not_just_below(theta: float, signed: bool) -> None:
    below = torch.nextafter(torch.tensor(theta, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
    neuron = IFNeuron(torch.tensor(theta, dtype=torch.float64), v_init=0.0, signed=signed)
    counts, _, _ = run(neuron, torch.stack([torch.tensor(theta, dtype=torch.float64), below])[None])
    assert counts.tolist() == [[1.0, 0.0]]


@given(
    theta=st.lists(thresholds, min_size=3, max_size=3),
    init=st.lists(st.integers(0, 16).map(lambda n: n / 16), min_size=3, max_size=3),
    seed=st.integers(0, 2**16),
    signed=st.booleans(),
)
def test_a_channel_with_its_own_threshold_is_that_channel_alone(
    theta: list[float], init: list[float], seed: int, signed: bool
) -> None:
    currents = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    bias = torch.tensor([0.25, 0.0, -0.5])
    neuron = IFNeuron(torch.tensor(theta), torch.tensor(init), bias, signed=signed, max_spikes=2)
    together, _, _ = run(neuron, currents)
    for c in range(3):
        alone = IFNeuron(theta[c], init[c], bias[c : c + 1], signed=signed, max_spikes=2)
        assert torch.equal(together[:, c : c + 1], run(alone, currents[:, c : c + 1])[0])


@given(x=varying, theta=thresholds, signed=st.booleans(), biased=st.booleans(), max_spikes=st.integers(1, 6))
def test_in_place_steps_give_the_same_spikes_and_membranes_in_the_memory_they_were_given(
    x: list[list[float]], theta: float, signed: bool, biased: bool, max_spikes: int
) -> None:
    currents = torch.tensor(x)
    bias = torch.full_like(currents[0], 0.1) if biased else None
    neuron = IFNeuron(theta, bias=bias, signed=signed, max_spikes=max_spikes).requires_grad_(False)
    state, own = neuron.initial_state(currents[:1]), neuron.initial_state(currents[:1])
    memory = [tensor.data_ptr() for tensor in own]
    for current in currents:
        count, state = neuron.fire(current[None], state)
        same, own = neuron.fire(current[None], own, in_place=True)
        assert torch.equal(count, same)
        assert all(map(torch.equal, state, own))
    assert [tensor.data_ptr() for tensor in own] == memory
