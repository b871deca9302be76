from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    Add,
    CumulativeDifference,
    IFNeuron,
    Linear,
    MaxPool2d,
    ReLU,
    StatelessOp,
    make_op,
)
from seenn.errors import CheckpointError


def inputs(timesteps: int = 6) -> Tensor:
    return torch.randn(timesteps, 2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("op", [MaxPool2d(kernel=3, stride=2, padding=1), ReLU(ceiling=0.5)], ids=lambda op: op.kind)
def test_outputs_add_up_to_t_times_the_op_of_the_mean_at_every_t(op: StatelessOp) -> None:
    x = inputs()
    memory = CumulativeDifference(op)
    state = memory.initial_state(x[0])
    total = torch.zeros_like(op(x[0]))
    for t, current in enumerate(x, start=1):
        y, state = memory.step((current,), state)
        total = total + y
        torch.testing.assert_close(total, t * op(x[:t].mean(0)))


def test_constant_input_gives_the_constant_in_every_step() -> None:
    x = inputs()[0]
    memory = CumulativeDifference(MaxPool2d(kernel=2, stride=2))
    state = memory.initial_state(x)
    for _ in range(5):
        y, state = memory.step((x,), state)
        torch.testing.assert_close(y, memory.constant(x))


def test_rows_may_be_at_different_timesteps() -> None:
    x = inputs(3)
    memory = CumulativeDifference(ReLU(ceiling=0.5))
    ahead = memory.initial_state(x[0])
    for current in x[:2]:
        _, ahead = memory.step((current,), ahead)
    fresh = memory.initial_state(x[0])
    mixed = tuple(torch.cat([a[:1], f[1:]]) for a, f in zip(ahead, fresh, strict=True))
    y, _ = memory.step((x[2],), mixed)
    torch.testing.assert_close(y[:1], memory.step((x[2][:1],), tuple(a[:1] for a in ahead))[0])
    torch.testing.assert_close(y[1:], memory.step((x[2][1:],), tuple(f[1:] for f in fresh))[0])


def test_a_network_computes_it_once_where_its_input_is_the_image() -> None:
    x = inputs()[0]

    def network(first: IFNeuron | Add) -> SpikingNetwork:
        nodes = [
            Node("first", first, (INPUT,)),
            Node("pool", CumulativeDifference(MaxPool2d(kernel=2, stride=2)), ("first",)),
            Node("relu", IFNeuron(), ("pool",)),
        ]
        return SpikingNetwork(OpGraph(nodes, "relu"), (3, 4, 4)).double()

    assert network(Add()).prefix == {"first", "pool"}
    assert ("pool", "t") not in network(Add()).state_layout
    assert ("pool", "t") in network(IFNeuron()).state_layout
    torch.testing.assert_close(network(Add()).encode(x)[0], MaxPool2d(kernel=2, stride=2)(x))


def test_it_wraps_only_weightless_stateless_ops_of_the_closed_set() -> None:
    with pytest.raises(ValueError, match="cannot wrap 'linear': it has weights"):
        CumulativeDifference(Linear(torch.ones(2, 2)))
    for function, message in [
        (None, "function must name an op, got None"),
        ({"op": "if_neuron"}, "function must be a stateless op, got 'if_neuron'"),
        ({"op": "cumulative_difference"}, "function must be a stateless op"),
        ({"op": "system"}, "unknown op 'system'"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            make_op("cumulative_difference", {"function": function}, {})
