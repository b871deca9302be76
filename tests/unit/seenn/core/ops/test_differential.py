"""Spikes that carry how running means change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.core.ops import (
    Encoder,
    IFNeuron,
    IntegratingNeuron,
    LeakyReLUNeuron,
    MatMul,
    MaxPool2d,
    StatefulOp,
    make_op,
)
from seenn.core.ops.differential import (
    DifferentialFunction,
    DifferentialNeuron,
    DifferentialProduct,
    DifferentialReadout,
)
from seenn.errors import CheckpointError

T = 12
NEURONS = {
    "relu": IFNeuron(0.25, max_spikes=8, signed=True),
    "relu6": IFNeuron(0.25, max_spikes=8, ceiling=0.75),
    "binary": IFNeuron(2.0, signed=True),
    "leaky": LeakyReLUNeuron(0.25, slope=torch.tensor([0.5, 0.1, 0.2]), max_spikes=8),
    "identity": Encoder(torch.tensor([0.25, 0.5, 0.1]), max_spikes=20),
}


def sequence(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Values that differential coding hands on, ``[T+1, *shape]``, the initial step first; and their running means."""
    random = torch.Generator().manual_seed(seed)
    mean = constant = torch.randn(*shape, generator=random, dtype=torch.float64) / 4
    values, means = [constant], [mean]
    for t in range(1, T + 1):
        change = torch.randn(*shape, generator=random, dtype=torch.float64) / (4 * t)
        mean = mean + change / t
        values.append(constant + change)
        means.append(mean)
    return torch.stack(values), torch.stack(means)


def mean_outputs(op: StatefulOp, *inputs: Tensor) -> Tensor:
    """The running means that its outputs stand for, ``[T+1, ...]``."""
    state = op.initial_state(*(x[0] for x in inputs))
    found: list[Tensor] = []
    for t, now in enumerate(zip(*inputs, strict=True)):
        output, state = op.step(now, state)
        found.append(found[-1] + (output - found[0]) / t if found else output)
    return torch.stack(found)


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_keeps_within_three_quarters_of_a_threshold_over_t_of_its_activation(name: str) -> None:
    rate: IntegratingNeuron = NEURONS[name].double()
    neuron = DifferentialNeuron.of(rate)
    values, means = sequence(4, 3, 5)
    found = mean_outputs(neuron, values)
    assert not found[0].any()  # nothing fires in the initial step
    theta = rate.v_threshold.detach().view(-1, 1).max()
    for t in range(1, T + 1):
        assert float((found[t] - rate.activation()(means[t])).detach().abs().max()) <= 0.75 * float(theta) / t + 1e-9


def test_what_has_settled_is_silent() -> None:
    neuron = DifferentialNeuron.of(IFNeuron(0.5, signed=True, max_spikes=4))
    x = torch.tensor([[0.5, 1.5, -3.0, 1.2]])
    state = neuron.initial_state(x)
    counts = []
    for _ in range(33):
        count, state = neuron.fire(x, state)
        counts.append(count[0])
    fired = torch.stack(counts)
    assert fired[0].tolist() == [0, 0, 0, 0]
    assert fired[1].tolist() == [1, 3, 0, 2]
    assert not fired[2:, :3].any()  # multiples of θ, and what the activation cuts off
    assert 0 < int(fired[2:, 3].abs().sum()) < 6  # rate coding fires twice or thrice in each step
    assert float(state[4][0, 3].detach()) == pytest.approx(1.2, abs=0.75 * 0.5 / 32)


def test_a_function_acts_on_running_means() -> None:
    op = DifferentialFunction(MaxPool2d(2, stride=2))
    values, means = sequence(2, 3, 4, 4)
    expected = torch.stack([op.op(mean) for mean in means])
    torch.testing.assert_close(mean_outputs(op, values), expected)
    assert op.fed_by_spikes(["spikes"]) is False


def test_a_product_is_that_of_the_means() -> None:
    op = DifferentialProduct(MatMul())
    (a, b), (of_a, of_b) = zip(sequence(2, 3, 4), sequence(2, 4, 5, seed=1), strict=True)
    torch.testing.assert_close(mean_outputs(op, a, b), of_a @ of_b)
    assert op.fed_by_spikes(["spikes", "spikes"])


def test_the_readout_adds_up_to_t_times_the_mean() -> None:
    values, means = sequence(2, 3)
    op = DifferentialReadout()
    state = op.initial_state(values[0])
    _, state = op.step((values[0],), state)
    total = torch.zeros(2, 3, dtype=torch.float64)
    for t in range(1, T + 1):
        output, state = op.step((values[t],), state)
        total += output
        torch.testing.assert_close(total, t * means[t])


@pytest.mark.parametrize("name", NEURONS)
def test_neurons_come_back_from_their_description(name: str) -> None:
    neuron = DifferentialNeuron.of(NEURONS[name].double())
    again = make_op(neuron.kind, neuron.config(), neuron.tensors())
    values, _ = sequence(4, 3, 5)
    assert torch.equal(mean_outputs(again, values), mean_outputs(neuron, values))
    assert neuron.title.startswith("differential ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"function": 3}, "function must name an activation, got 3"),
        ({"function": {"op": "linear"}}, "function must be an activation, got 'linear'"),
        ({"function": {"op": "softmax"}}, "function must be an activation, got 'softmax'"),
        ({"function": {"op": "nothing"}}, "nothing"),
        ({"function": {"op": "relu", "ceiling": -1.0}}, "ceiling must be above 0"),
        ({"function": {"op": "leaky_relu"}}, "slope"),
    ],
)
def test_damaged_descriptions_are_refused(change: dict[str, Any], message: str) -> None:
    neuron = DifferentialNeuron.of(IFNeuron(0.5))
    with pytest.raises(CheckpointError, match=message):
        make_op(neuron.kind, {**neuron.config(), **change}, neuron.tensors())


def test_a_membrane_that_does_not_start_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="v_init must be 0: the mean output is 0 before the first step"):
        DifferentialNeuron(0.5, 0.5, function={"op": "relu", "ceiling": None})
