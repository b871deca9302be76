from __future__ import annotations

import re

import pytest
import torch

from seenn.core.graph import INPUT, Node, OpGraph, macs, prune, schedule
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    Add,
    Conv2d,
    CumulativeDifference,
    Flatten,
    IFNeuron,
    Linear,
    MatMul,
    Mean,
    Multiply,
    Op,
    Permute,
    ReLU,
    Scale,
)


def node(name: str, *inputs: str) -> Node:
    return Node(name, Add() if len(inputs) > 1 else ReLU(), inputs)


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        ([node("a", INPUT), node("a", INPUT)], "a", "two nodes are named 'a'"),
        ([node("input", INPUT)], "input", "two nodes are named 'input'"),
        ([node("a", "b"), node("b", INPUT)], "b", "node 'a' reads ['b'], which no earlier node computes"),
        ([node("a", "a")], "a", "node 'a' reads ['a']"),
        ([node("a")], "a", "node 'a' has no input"),
        ([node("a", INPUT)], INPUT, "the output 'input' is not a node"),
        ([Node("a", ReLU(), (INPUT, INPUT))], "a", "node 'a' (relu) takes one input, got 2"),
    ],
)
def test_a_graph_refuses_wrong_wiring(nodes: list[Node], output: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        OpGraph(nodes, output)


def test_shapes_are_found_without_computing(network: SpikingNetwork) -> None:
    huge = OpGraph([Node("c", Conv2d(torch.ones(64, 3, 3, 3), padding=1), (INPUT,))], "c")
    assert huge.shapes((3, 1 << 18, 1 << 18))["c"] == (64, 1 << 18, 1 << 18)  # 16 TiB an image
    shapes = network.graph.shapes((2, 6, 6))
    assert shapes["conv2"] == (4, 6, 6)
    assert (shapes["pool"], shapes["flatten"], shapes["head"]) == ((4, 3, 3), (36,), (5,))


def test_shapes_refuse_a_node_that_mixes_images() -> None:
    graph = OpGraph([Node("pad", _pads_the_batch(), (INPUT,))], "pad")
    with pytest.raises(ValueError, match="node 'pad' \\(pad\\) does not keep the images of a batch apart"):
        graph.shapes((2, 3))


def _pads_the_batch() -> torch.nn.Module:
    from seenn.core.ops import Pad

    return Pad(amounts=(0, 0, 0, 0, 1, 0))


def test_evaluate_frees_values_after_their_last_reader() -> None:
    nodes = (node("a", INPUT), node("b", "a"), node("c", "b", "a"), node("dead", "b"), node("d", "c"))
    freed = {n.name: set(done) for n, done in schedule(nodes, {"d"})}
    assert freed == {"a": {INPUT}, "b": set(), "c": {"a"}, "dead": {"b", "dead"}, "d": {"c"}}
    assert [n.name for n in prune(nodes, "d")] == ["a", "b", "c", "d"]


def test_a_stateful_op_cannot_run_without_a_network() -> None:
    graph = OpGraph([Node("n", IFNeuron(), (INPUT,))], "n")
    with pytest.raises(TypeError, match=r"node 'n' \(if_neuron\) has state: run it in a SpikingNetwork"):
        graph(torch.zeros(1, 2))


def test_replace_keeps_the_wiring_and_shares_the_other_ops(network: SpikingNetwork) -> None:
    other = network.graph.replace({"relu2": ReLU()})
    assert [n.inputs for n in other] == [n.inputs for n in network.graph]
    assert other["conv1"].op is network.graph["conv1"].op
    with pytest.raises(KeyError, match="no node 'relu3'"):
        network.graph["relu3"]


def test_a_fingerprint_covers_wiring_attributes_and_tensors() -> None:
    def of(op: Op, name: str = "n") -> str:
        return OpGraph([Node(name, op, (INPUT,))], name).fingerprint()

    assert of(IFNeuron(max_spikes=2)) == of(IFNeuron(max_spikes=2))
    others = [of(IFNeuron()), of(IFNeuron(max_spikes=3)), of(IFNeuron(2.0, max_spikes=2)), of(ReLU())]
    assert len({of(IFNeuron(max_spikes=2)), of(IFNeuron(max_spikes=2), "m"), *others}) == 6


def test_macs_count_output_values_times_weights_each() -> None:
    shapes = {INPUT: (4, 7, 7), "q": (2, 5, 3), "k": (2, 3, 6), "c": (8, 5, 5), "l": (5,), "s": (5,), "m": (2, 5, 6)}
    assert macs(Node("c", Conv2d(torch.ones(8, 2, 3, 3), groups=2), (INPUT,)), shapes) == 8 * 25 * 18
    assert macs(Node("l", Linear(torch.ones(5, 7)), (INPUT,)), shapes) == 35
    assert macs(Node("s", Scale(factor=2.0), (INPUT,)), shapes) == 0
    assert macs(Node("m", CumulativeDifference(MatMul()), ("q", "k")), shapes) == 2 * 5 * 6 * 3
    assert macs(Node("m", Multiply(), ("m", "m")), shapes) == 2 * 5 * 6
    assert macs(Node("l", IFNeuron(), ("l",)), shapes) == 0


def test_ops_that_rearrange_agree_with_torch() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(Permute(axes=(0, 2, 1))(x), x.permute(0, 2, 1))
    assert torch.equal(Flatten()(x), x.flatten(1))
    assert torch.equal(Mean(axes=(1,), keepdim=True)(x), x.mean(1, keepdim=True))
    with pytest.raises(ValueError, match="keeps axis 0 first"):
        Permute(axes=(1, 0, 2))
