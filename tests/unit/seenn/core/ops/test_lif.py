from __future__ import annotations

import pytest
import torch

import seenn
from seenn.core.ops import LIFNeuron, make_op
from seenn.surrogate import Triangle


def test_a_hard_reset_neuron_leaks_fires_and_starts_again() -> None:
    neuron = LIFNeuron(1.0, decay=0.5, v_reset=-0.25)
    state = neuron.initial_state(torch.zeros(1, 1))
    seen = []
    for current in (0.75, 0.75, 0.5, 2.0):
        output, state = neuron.step((torch.tensor([[current]]),), state)
        seen.append((output.item(), state[0].item()))
    assert seen == [(0.0, 0.75), (1.0, -0.25), (0.0, 0.375), (1.0, -0.25)]


def test_a_soft_reset_neuron_keeps_what_exceeds_the_threshold() -> None:
    neuron = LIFNeuron(torch.tensor([2.0]), decay=0.5, v_reset=None)
    output, (v,) = neuron.step((torch.tensor([[3.0]]),), neuron.initial_state(torch.zeros(1, 1)))
    assert (output.item(), v.item()) == (2.0, 1.0)
    output, (v,) = neuron.step((torch.tensor([[1.5]]),), (v,))
    assert (output.item(), v.item()) == (2.0, 0.0)  # reaching the threshold fires


def test_it_is_an_op_of_the_closed_set_and_public() -> None:
    neuron = seenn.LIFNeuron(torch.tensor([0.5, 2.0]), 0.25, decay=0.75, v_reset=None, detach_reset=True)
    again = make_op("lif_neuron", neuron.config(), neuron.tensors())
    assert isinstance(again, LIFNeuron)
    assert again.config() == {"decay": 0.75, "v_reset": None, "detach_reset": True, "max_spikes": 1, "axis": 1}
    assert again.v_threshold.tolist() == [0.5, 2.0]
    assert again.v_init.item() == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, r"decay must be in \[0, 1\), got 1.0; a neuron without a leak is IFNeuron"),
        ({"decay": -0.1}, r"decay must be in \[0, 1\), got -0.1"),
        ({"decay": float("nan")}, r"decay must be a finite number, got nan"),
        ({"v_reset": 1.0}, r"v_reset must be below every threshold, got 1.0 and a threshold of 1"),
        ({"v_reset": float("inf")}, r"v_reset must be a finite number"),
        ({"detach_reset": 1}, r"detach_reset must be true or false"),
        ({"max_spikes": 2}, r"several spikes a step are subtracted; give v_reset=None"),
        ({"v_threshold": 0.0}, r"v_threshold must be positive"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LIFNeuron(**options)  # type: ignore[arg-type]


def test_a_surrogate_is_for_binary_neurons() -> None:
    with pytest.raises(ValueError, match=r"a surrogate is for binary neurons; a signed \(up to 4 spikes\) neuron has"):
        seenn.IFNeuron(signed=True, max_spikes=4, surrogate=Triangle())


def test_reset_forgets_the_membrane_of_every_kind() -> None:
    neuron = LIFNeuron()
    model = torch.nn.Sequential(neuron)
    first = model(torch.full((2, 3), 0.75)).clone()
    with pytest.raises(ValueError, match=r"LIFNeuron holds a membrane of shape \(2, 3\) and was given input"):
        model(torch.zeros(1, 3))
    seenn.reset(model)
    assert torch.equal(model(torch.full((2, 3), 0.75)), first)
