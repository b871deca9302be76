from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from small_snn import deep_network

from seenn.core.cuts import choose_cuts, cuts
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Add, IFNeuron, Linear
from seenn.core.serialisation import graph_from_json, graph_to_json
from seenn.errors import CheckpointError, UnsupportedError

IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_segments_divide_the_step_and_hand_on_the_cut_alone() -> None:
    network = deep_network()
    assert [segment.output for segment in network.segments] == ["exit1", "exit2", "head"]
    assert [segment.gives for segment in network.segments] == [("a",), ("b",), ()]
    assert sum(len(segment.nodes) for segment in network.segments) == len(network.graph) - len(network.prefix)


def test_the_last_exit_is_the_network_without_heads_and_a_head_is_linear_in_its_spikes() -> None:
    network, counts, state, plain_state = deep_network(), {}, None, None
    plain, current = network.without_heads(), network.encode(IMAGES)
    for _ in range(3):
        outputs, state = network.advance_exits(current, state, counts.__setitem__)
        expected, plain_state = plain.advance(plain.encode(IMAGES), plain_state)
        assert torch.equal(outputs[-1], expected)
        pooled = torch.nn.functional.adaptive_avg_pool2d(counts["b"] * 0.6, 2).flatten(1)
        torch.testing.assert_close(outputs[1], network.graph["exit2"].op(pooled))
    assert counts["b"].any()


def test_costs_are_shares_of_the_multiply_accumulates_of_a_step() -> None:
    conv, head1, head2, last = 6 * 6 * 9 * 64, 3 * 24, 3 * 24, 8 * 6 * 9 * 64 + 3 * 8
    total = head1 + 2 * conv + head2 + last
    assert deep_network().exit_costs == pytest.approx((head1 / total, (head1 + 2 * conv + head2) / total, 1.0))
    assert deep_network(heads=0).exit_costs == (1.0,)


def test_heads_travel_as_json_and_count_in_the_fingerprint() -> None:
    network, tensors = deep_network(), {}
    description = graph_to_json(network.graph, (1, 8, 8), tensors)
    graph, _ = graph_from_json(description, dict(tensors))
    assert graph.heads == ("exit1", "exit2")
    assert graph.fingerprint() == network.graph.fingerprint()
    fewer = OpGraph(network.graph, "head", ["exit2"])
    assert fewer.fingerprint() != graph.fingerprint()
    assert "heads" not in graph_to_json(deep_network(heads=0).graph, (1, 8, 8), {})


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["nowhere"], "the output 'nowhere' is not a node"),
        ("exit1", "heads must be a list of names of nodes"),
        (["exit1", "exit1"], "are not different nodes"),
        (["a"], r"the head 'a' gives \[6, 8, 8\], expected the output's \[3\]"),
    ],
)
def test_a_file_with_other_heads_is_refused(heads: object, message: str) -> None:
    tensors: dict[str, torch.Tensor] = {}
    description = graph_to_json(deep_network().graph, (1, 8, 8), tensors) | {"heads": heads}
    with pytest.raises(CheckpointError, match=message):
        graph_from_json(description, tensors)


def test_heads_in_disorder_are_refused() -> None:
    with pytest.raises(ValueError, match="needs nothing beyond those before it"):
        SpikingNetwork(OpGraph(deep_network().graph, "head", ["b.conv2", "a"]), (1, 8, 8))


def test_cuts_lie_between_blocks_and_not_inside_one() -> None:
    assert [cut.name for cut in cuts(deep_network(heads=0))] == ["a", "b", "c"]
    assert [cut.name for cut in choose_cuts(deep_network(heads=0), None, 1)] == ["b"]
    assert [cut.name for cut in choose_cuts(deep_network(heads=0), ["b", "a"], 9)] == ["a", "b"]


@pytest.mark.parametrize(
    ("channels", "heads", "places"),
    [
        ((8, 8, 8, 8, 8), 4, [0.25, 0.5, 0.75]),
        ((8, 8, 8, 8, 8), 1, [0.5]),
        ((32, 32, 8, 4, 4), 4, [0.75]),  # 0.75, 0.94, 0.98, 1.0: the last three would save nothing more
        ((32, 1, 1, 1, 1), 4, [0.91]),
    ],
)
def test_heads_are_spread_over_the_work_and_none_stands_beside_another(
    channels: tuple[int, ...], heads: int, places: list[float]
) -> None:
    nodes, before = [Node("in", Linear(torch.ones(channels[0], 3)), (INPUT,))], "in"
    for number, (here, following) in enumerate(pairwise(channels)):
        nodes.append(Node(f"n{number}", IFNeuron(1.0), (before,)))
        before = f"l{number}"
        nodes.append(Node(before, Linear(torch.ones(following, here)), (f"n{number}",)))
    nodes += [Node("last", IFNeuron(1.0), (before,)), Node("head", Linear(torch.ones(2, channels[-1])), ("last",))]
    found = choose_cuts(SpikingNetwork(OpGraph(nodes, "head"), (3,)), None, heads)
    assert [cut.cost for cut in found] == pytest.approx(places, abs=0.08)
    costs = [cut.cost for cut in found]
    assert all(b - a > 0.5 / (heads + 1) for a, b in pairwise(costs))


def test_a_place_that_is_no_cut_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no head can be put at b\.inner; choose from a, b, c"):
        choose_cuts(deep_network(heads=0), ["b.inner"], 1)


def test_a_graph_without_a_cut_is_refused() -> None:
    eye = torch.eye(3)
    nodes = [
        Node("one", Linear(eye), (INPUT,)),
        Node("x", IFNeuron(), ("one",)),
        Node("y", IFNeuron(), ("one",)),
        Node("join", Add(), ("x", "y")),
        Node("head", Linear(eye), ("join",)),
    ]
    with pytest.raises(UnsupportedError, match="this network has no cut"):
        choose_cuts(SpikingNetwork(OpGraph(nodes, "head"), (3,)), None, 2)
