"""The neuron with a floor: what it forgets, and that it is trained."""

from __future__ import annotations

import pytest
import torch

import seenn
from seenn.core.ops import FlooredNeuron
from seenn.surrogate import Triangle


def test_a_membrane_goes_no_lower_than_its_floor_and_fires_what_it_holds() -> None:
    neuron = FlooredNeuron(2.0, max_spikes=3)
    spikes = [neuron(torch.full((1, 1), x)).item() for x in (-9.0, 3.0, 1.0, 9.0, 0.0)]
    #         membrane charged to −2, 1, 2, 9 (three spikes leave 3), 3
    assert spikes == [0.0, 0.0, 2.0, 6.0, 2.0]


def test_gradients_flow_where_the_floor_does_not_hold() -> None:
    neuron, x = FlooredNeuron(1.0), torch.tensor([[-3.0, 0.9]], requires_grad=True)
    neuron(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0] == 0
    assert x.grad[0, 1] > 0


def test_a_surrogate_is_for_binary_neurons() -> None:
    assert seenn.FlooredNeuron(max_spikes=1, surrogate=Triangle()).surrogate == Triangle()
    with pytest.raises(ValueError, match=r"a floored \(up to 2 spikes\) neuron has its own: leave it out"):
        FlooredNeuron(max_spikes=2, surrogate=Triangle())
