from __future__ import annotations

import pytest
import torch
from runs import run
from torch import Tensor

from seenn.analysis.synops import EXACT, SpikeCounter, SpikeMeter, dense_cost, fan_out, most_levels, traffic
from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    ChannelAffine,
    Concat,
    Conv2d,
    CumulativeDifference,
    Encoder,
    Flatten,
    IFNeuron,
    IncrementalProduct,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Multiply,
    Product,
    Scale,
    Slice,
    Softmax,
)
from seenn.exits import ConfidenceExit
from seenn.metrics.energy import DenseCost, QuantisedANN, ann_energy_pj, integer_mac_pj, snn_energy_pj
from seenn.runtime import Session
from seenn.runtime.engines.reference import ReferenceEngine


def network(*, signed: bool = True, max_spikes: int = 3) -> SpikingNetwork:
    """Stride, padding, groups, dilation, every way for spikes to pass on, a residual, an analog pool."""
    random = torch.Generator().manual_seed(0)

    def conv(out: int, into: int, k: int = 3, **options: int) -> Conv2d:
        return Conv2d(torch.randn(out, into, k, k, generator=random) / 2, torch.randn(out, generator=random), **options)

    def neuron() -> IFNeuron:
        return IFNeuron(0.4, signed=signed, max_spikes=max_spikes)

    nodes = [
        Node("conv1", conv(4, 2, padding=1), (INPUT,)),
        Node("n1", neuron(), ("conv1",)),
        Node("conv2", conv(4, 2, stride=2, padding=1, groups=2), ("n1",)),
        Node("skip", AvgPool2d(kernel=3, stride=2, padding=1), ("n1",)),
        Node("skip_conv", conv(4, 4, k=1), ("skip",)),
        Node("add", Add(), ("conv2", "skip_conv")),
        Node("n2", neuron(), ("add",)),
        Node("affine", ChannelAffine(torch.full((4,), 0.5), torch.ones(4)), ("n2",)),
        Node("spikes", Add(), ("affine", "n2")),
        Node("conv3", conv(4, 4, dilation=2, padding=2), ("spikes",)),
        Node("n3", neuron(), ("conv3",)),
        Node("max", CumulativeDifference(MaxPool2d(kernel=2, stride=1, padding=1)), ("n3",)),
        Node("conv4", conv(3, 4, k=1), ("max",)),
        Node("n4", neuron(), ("conv4",)),
        Node("pool", AdaptiveAvgPool2d(size=(3, 1)), ("n4",)),
        Node("half", Scale(factor=0.5), ("pool",)),
        Node("mean", Mean(axes=(2, 3), keepdim=True), ("n4",)),
        Node("concat", Concat(axis=2), ("half", "mean")),
        Node("flatten", Flatten(), ("concat",)),
        Node("head", Linear(torch.randn(5, 12, generator=random)), ("flatten",)),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (2, 6, 6)).requires_grad_(False)


def reached(net: SpikingNetwork, site: str, index: tuple[int, int, int]) -> int:
    """Brute force: one spike at one place; every output it touches, through each synapse, counts one."""
    shapes = net.graph.shapes(net.input_shape)
    values = {site: torch.zeros(1, *shapes[site])}
    values[site][0, index[0], index[1], index[2]] = 1.0
    total = 0
    for node in net.graph:
        if node.name == site or not any(name in values for name in node.inputs):
            continue
        if isinstance(node.op, IFNeuron | CumulativeDifference):
            continue
        inputs = [values.get(name, torch.zeros(1, *shapes[name])) for name in node.inputs]
        if isinstance(node.op, Conv2d | Linear):
            (x,) = inputs  # each event, wherever it sits now, is its own synaptic operation
            for place in x.nonzero().tolist():
                one = torch.zeros_like(x)
                one[tuple(place)] = 1.0
                positive = type(node.op)(node.op.weight.abs() + 1, **node.op.config())
                total += round(float(x[tuple(place)])) * int((positive(one) != 0).sum())
        elif isinstance(node.op, AvgPool2d):
            values[node.name] = 9 * torch.nn.functional.avg_pool2d(inputs[0], 3, 2, 1)
        elif isinstance(node.op, AdaptiveAvgPool2d):  # three of four rows: the windows overlap
            windows = [inputs[0][:, :, start : start + 2].sum((2, 3)) for start in range(3)]
            values[node.name] = torch.stack(windows, 2)[..., None]
        elif isinstance(node.op, Mean):
            values[node.name] = inputs[0].sum((2, 3), keepdim=True)
        elif isinstance(node.op, ChannelAffine | Scale):
            values[node.name] = inputs[0]
        else:
            values[node.name] = node.op(*inputs)  # sums, concatenation, reshaping
    return total


@pytest.mark.parametrize("site", ["n1", "n2", "n3", "n4"])
def test_fan_out_is_the_number_of_synapses_that_each_spike_reaches(site: str) -> None:
    net = network()
    with torch.no_grad():  # evaluation runs without gradients, and must count all the same
        found = fan_out(net)[site]
    for index in torch.ones(found.shape).nonzero()[::5].tolist():
        assert int(found[tuple(index)]) == reached(net, site, (index[0], index[1], index[2])), index


def test_values_behind_a_maximum_are_analog_and_their_synapses_cost_macs_each_step() -> None:
    net = network()
    kinds = traffic(net)
    assert {name for name, kind in kinds.items() if kind == "constant"} == {INPUT, "conv1"}
    assert kinds["spikes"] == kinds["flatten"] == "spikes"
    assert kinds["max"] == kinds["conv4"] == kinds["add"] == "analog"
    assert int(fan_out(net)["n3"].sum()) == 0
    once, conv2, skip, conv3, conv4, head = 4 * 36 * 18, 4 * 9 * 18, 4 * 9 * 4, 4 * 9 * 36, 3 * 16 * 4, 60
    spiking = conv2 + skip + conv3 + head
    assert dense_cost(net) == DenseCost(ann=once + spiking + conv4, once=once, per_step=conv4, spiking=spiking)
    assert dense_cost(net).spiking_mac_share == spiking / (spiking + conv4)


@pytest.mark.parametrize(("signed", "max_spikes"), [(True, 3), (False, 4), (False, 1)])
def test_the_meter_counts_spikes_where_they_arrive(signed: bool, max_spikes: int) -> None:
    net = network(signed=signed, max_spikes=max_spikes)
    images = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    meter, fans = SpikeMeter(net, 5, 6), fan_out(net)
    synops: dict[int, float] = {}
    spikes = dict.fromkeys(net.sites, 0.0)
    extremes: list[float] = []

    def observe(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        meter.spikes(torch.full_like(rows, t), rows, site, count)
        extremes.extend((float(count.min()), float(count.max())))
        for sample in count:  # n spikes of a burst count n, a negative one counts one
            synops[t] = synops.get(t, 0.0) + float((sample.abs().double() * fans[site]).sum())
        spikes[site] += float(count.abs().sum())

    with torch.no_grad():
        exits = run(net, images, ConfidenceExit(threshold=0.9), 5, observe=observe).exit_timestep
    assert (min(extremes) < 0) is signed
    assert (max(extremes) > 1) is (max_spikes > 1)
    assert meter.synops.sum(1).tolist() == pytest.approx([synops.get(t, 0.0) for t in range(1, 6)])
    chances = {site: int(exits.sum()) * fans[site].numel() for site in net.sites}
    assert meter.rates == pytest.approx({site: spikes[site] / chances[site] for site in net.sites})


def test_the_meter_works_while_gradients_are_recorded() -> None:
    net = network().requires_grad_(True)
    meter = SpikeMeter(net, 2, 2)
    Session(ReferenceEngine(net), None, 2).run(Batch(torch.randn(2, 2, 6, 6)), observers=[meter])
    assert float(meter.synops.sum()) > 0


def test_energy_is_macs_and_accumulates_at_45_nm() -> None:
    cost = DenseCost(ann=1000, once=100, per_step=10)
    assert ann_energy_pj(cost) == 4600.0
    assert snn_energy_pj(cost, synops=200.0, timesteps=2.5) == pytest.approx(4.6 * (100 + 25) + 0.9 * 200)


def test_integers_of_a_width_cost_what_multipliers_of_that_width_do() -> None:
    assert integer_mac_pj(8) == pytest.approx(0.2 + 0.1)
    assert integer_mac_pj(32) == pytest.approx(3.1 + 0.1, rel=0.05)  # 3.1 pJ by the same source
    cost = DenseCost(ann=1000, once=100, per_step=10)
    ann = QuantisedANN.of(cost, levels=17)
    assert (ann.bits, ann.energy_pj) == (5, pytest.approx(1000 * integer_mac_pj(5)))
    assert ann.snn_energy_pj(cost, 200.0, 2.5) == pytest.approx(0.3 * 100 + integer_mac_pj(5) * 25 + 0.1 * 200)


def test_the_finest_neurons_say_how_many_levels_there_are() -> None:
    assert most_levels(network(signed=True, max_spikes=3), 5) == 16
    nodes = [Node("a", IFNeuron(1.0, max_spikes=20), (INPUT,)), Node("b", Encoder(1.0, max_spikes=15), ("a",))]
    assert most_levels(SpikingNetwork(OpGraph(nodes, "b"), (3,)), 4) == 2 * 4 * 15 + 1


def test_spikes_are_counted_as_events_set_bits_and_one_by_one() -> None:
    net = SpikingNetwork(OpGraph([Node("n", Encoder(1.0, max_spikes=15), (INPUT,))], "n"), (4,))
    counter = SpikeCounter(net)
    assert counter.totals == {"events": 0, "popcount": 0, "spikes": 0}
    counter.spikes(torch.tensor([1]), torch.tensor([0]), "n", torch.tensor([[0.0, -7.0, 8.0, 1.0]]))
    counter.spikes(torch.tensor([2]), torch.tensor([0]), "n", torch.tensor([[0.0, 0.0, 15.0, 0.0]]))
    assert counter.totals == {"events": 4, "popcount": 3 + 1 + 1 + 4, "spikes": 7 + 8 + 1 + 15}
    assert counter.rates == {"n": 31 / 8}


@pytest.mark.parametrize("gate", [False, True])
def test_a_spike_that_is_multiplied_reaches_everything_that_it_is_multiplied_with(gate: bool) -> None:
    op: Product = Multiply() if gate else MatMul()
    nodes = [
        Node("x", Encoder(1.0), (INPUT,)),
        Node("y", Slice(axis=2, start=0, stop=1 if gate else 3), ("x",)),
        Node("product", IncrementalProduct(op), ("x", "y")),
    ]
    net = SpikingNetwork(OpGraph(nodes, "product"), (3, 3))
    # x @ x[:, :3]: 3 outputs from the left, 3 from the right; as a gate, one and those of its whole row.
    expected = [[1 + 3, 1, 1]] * 3 if gate else [[6, 6, 6]] * 3
    assert fan_out(net)["x"].tolist() == expected
    assert dense_cost(net) == DenseCost(ann=9 if gate else 27, once=0, per_step=0, spiking=9 if gate else 27)


def test_a_product_with_an_analog_value_is_analog() -> None:
    nodes = [
        Node("x", Encoder(1.0), (INPUT,)),
        Node("smooth", CumulativeDifference(Softmax(axis=1)), ("x",)),
        Node("product", IncrementalProduct(Multiply()), ("x", "smooth")),
    ]
    assert dense_cost(SpikingNetwork(OpGraph(nodes, "product"), (3,))).spiking_mac_share == 0.0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("fires", [1, 100])
def test_synops_are_exact_in_every_type_and_layout_of_the_counts(
    dtype: torch.dtype, layout: torch.memory_format, fires: int
) -> None:
    """Inputs of 8 × 200 × 100 neurons that each reach 60 outputs and more: far beyond what float32 holds exactly."""
    nodes = [
        Node("n", IFNeuron(1.0, max_spikes=127), (INPUT,)),
        Node("conv", Conv2d(torch.ones(67, 8, 3, 3), padding=1), ("n",)),
        Node("flatten", Flatten(), ("conv",)),
    ]
    snn = SpikingNetwork(OpGraph(nodes, "flatten"), (8, 200, 100))
    counts = torch.randint(0, fires + 1, (2, 8, 200, 100), generator=torch.Generator().manual_seed(0)) | 1
    meter, reached = SpikeMeter(snn, 1, 2), fan_out(snn)["n"].double()
    expected = (counts.double() * reached).sum((1, 2, 3))
    assert float(expected.min()) > EXACT
    meter.spikes(torch.ones(2, dtype=torch.int64), torch.arange(2), "n", counts.to(dtype, memory_format=layout))
    assert torch.equal(meter.synops[0], expected)
    assert meter.rates["n"] == float(counts.double().mean())
