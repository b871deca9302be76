from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from runs import run
from torch import Tensor

from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    Conv2d,
    CumulativeDifference,
    Flatten,
    IFNeuron,
    LeakyReLUNeuron,
    LIFNeuron,
    Linear,
    MaxPool2d,
    Neuron,
    ReLU,
    Resize,
)
from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError
from seenn.runtime import make_engine
from seenn.runtime.lowering import InputScale, choose_rounding, lower
from seenn.runtime.lowering.program import EXACT_LIMIT, SynapseTerm
from seenn.runtime.lowering.rounding import mean_inputs, mean_outputs

MakeNetwork = Callable[..., SpikingNetwork]


def synapses(network: SpikingNetwork, **options: object) -> dict[str, SynapseTerm]:
    program = lower(network, timesteps=4, **options)  # type: ignore[arg-type]
    names = iter(report.layer for report in program.report)
    return {next(names): term for s in program.sums() for term in s.terms if isinstance(term, SynapseTerm)}


def test_weights_are_integers_and_fit_in_int8_times_a_unit(network: SpikingNetwork) -> None:
    found = synapses(network)
    assert set(found) == {"conv1", "conv2", "head"}
    for term in found.values():
        assert torch.equal(term.weight, term.weight.round())
    conv2 = found["conv2"]
    assert conv2.unit is not None
    int8 = conv2.weight / conv2.unit.view(-1, 1, 1, 1)
    assert torch.equal(int8, int8.round())
    assert 64 < float(int8.abs().max()) <= 127


def test_a_layer_kept_in_float_loses_less(network: SpikingNetwork) -> None:
    def error(**options: tuple[str, ...]) -> float:
        report = lower(network, timesteps=4, **options).report  # type: ignore[arg-type]
        return next(layer.weight_error for layer in report if layer.layer == "conv2")

    assert synapses(network, float_sites=["conv2"])["conv2"].unit is None
    assert error(float_sites=("conv2",)) < error() / 8


def test_calibration_lowers_the_error_of_the_output(make_network: MakeNetwork, images: Tensor) -> None:
    inputs, errors, size = images.float(), [0.0, 0.0], 0.0
    for seed in range(6):
        network = make_network(seed=seed).float()
        expected = network(inputs, 4) * 4
        size += float(expected.abs().mean())
        chosen = choose_rounding(network, Batch.of(inputs, network.input_shape), timesteps=4)
        for number, rounding in enumerate((None, chosen)):
            sections = {} if rounding is None else {"int8": rounding.to_section()}
            engine = make_engine("int8", network, timesteps=4, sections=sections)
            sums = run(engine, inputs, None, 4, slots=12).logits_sum
            errors[number] += float((sums - expected).abs().mean())
    assert errors[1] < 0.97 * errors[0]
    assert errors[1] < 0.1 * size


@pytest.mark.parametrize("is_sequence", [False, True])
def test_mean_inputs_are_those_of_a_run(network: SpikingNetwork, images: Tensor, is_sequence: bool) -> None:
    frames = torch.stack([images.roll(t, -1) for t in range(5)]) if is_sequence else images
    batch, state = Batch(frames, is_sequence=is_sequence), None
    sums: dict[str, Tensor] = {}
    assert len(network.shapes) == 9  # found before the hooks see every call
    hooks = [
        network.graph[name].op.register_forward_hook(
            lambda op, x, y, name=name: sums.__setitem__(name, sums.get(name, 0) + x[0])
        )
        for name in ("conv1", "conv2", "head")
    ]
    for t in range(1, 6):
        _, state = network.advance(network.encode(batch.frame(t)), state)
    for hook in hooks:
        hook.remove()
    expected = {name: total / 5 for name, total in sums.items()}
    mean_images = frames.mean(0) if is_sequence else images
    found = mean_inputs(network, mean_images, mean_outputs(network, batch, 5))
    assert found.keys() == expected.keys()
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name])


def test_all_nodes_without_an_integer_form_are_named_at_once() -> None:
    nodes = [
        Node("conv", Conv2d(torch.ones(2, 1, 3, 3)), (INPUT,)),
        Node("fire", IFNeuron(1.0), ("conv",)),
        Node("gate", CumulativeDifference(ReLU()), ("fire",)),
        Node("clip", ReLU(ceiling=6.0), ("gate",)),
        Node("flat", Flatten(), ("clip",)),
        Node("head", Linear(torch.ones(2, 32)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 6, 6)).requires_grad_(False)
    with pytest.raises(UnsupportedError, match="2 nodes have no exact integer form") as caught:
        lower(network, timesteps=4)
    assert "gate (cumulative_difference): relu of a running mean is not an integer" in str(caught.value)
    assert "clip (relu): it is neither affine, nor a neuron, nor a maximum" in str(caught.value)
    pixels = Preprocessing(channels=1, height=6, width=6, mean=(0.0,), std=(1.0,))
    engine = make_engine("auto", network, timesteps=4, preprocessing=pixels)
    assert (engine.name, engine.exact) == ("float32", False)
    assert "2 nodes have no exact integer form" in engine.note
    images = torch.randn(3, 1, 6, 6)
    sums = run(engine, images, None, 4, slots=2).logits_sum
    torch.testing.assert_close(sums, network(images, 4) * 4)


def test_a_site_that_could_leave_the_exact_range_is_named_with_its_bound(make_network: MakeNetwork) -> None:
    network = make_network(max_spikes=100)
    most = lower(network, timesteps=8).max_timesteps
    assert most is not None
    assert most >= 8
    with pytest.raises(
        UnsupportedError, match=r"sums could leave the range .*relu2: may reach [\d,]+ after 1000000 steps"
    ):
        lower(network, timesteps=1_000_000)


def test_a_scale_is_coarser_where_more_steps_have_to_fit() -> None:
    pixels = Preprocessing(channels=1, height=2, width=2, mean=(0.0,), std=(1.0,))
    nodes = [
        Node("first", Conv2d(torch.full((1, 1, 1, 1), 0.9)), (INPUT,)),
        Node("fire", IFNeuron(1.0, max_spikes=100), ("first",)),
        Node("second", Conv2d(torch.ones(1, 1, 1, 1)), ("fire",)),
        Node("burst", IFNeuron(0.05, max_spikes=20), ("second",)),
        Node("flat", Flatten(), ("burst",)),
        Node("head", Linear(torch.eye(4)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 2, 2)).requires_grad_(False)

    def steps_of_the_threshold(timesteps: int) -> float:
        program = lower(network, timesteps=timesteps, preprocessing=pixels)
        assert program.max_timesteps is not None
        assert program.max_timesteps >= timesteps
        assert program.buffers["burst.v"].dtype == (torch.int32 if timesteps > 8 else torch.float32)
        assert set(program.coarser) == ({"burst"} if timesteps > 400 else set())
        (second,) = (total for total in program.sums() if total.target.startswith("burst"))
        (term,) = second.terms
        assert isinstance(term, SynapseTerm)
        assert torch.equal(term.weight, term.weight.round())
        return 0.05 * float(term.weight.max())

    assert steps_of_the_threshold(8) == pytest.approx(127)
    assert steps_of_the_threshold(400) == pytest.approx(127)
    assert 7 <= steps_of_the_threshold(40_000) < 32
    note = make_engine("int8", network, timesteps=40_000, preprocessing=pixels).note
    assert re.search(r"a coarser fixed-point scale, so that 40000 steps fit: \d+ times at burst", note)
    with pytest.raises(UnsupportedError, match=r"burst: may reach [\d,]+ after 1000000 steps, exact up to T = \d{6}"):
        lower(network, timesteps=1_000_000, preprocessing=pixels)


def test_a_neuron_far_below_its_threshold_that_sees_next_to_nothing_gets_a_coarser_scale() -> None:
    weight = torch.tensor([0.9, 1e-12]).view(2, 1, 1, 1)
    nodes = [
        Node("first", Conv2d(weight, torch.tensor([0.0, -20.0])), (INPUT,)),  # the second: 20 thresholds down in a step
        Node("fire", IFNeuron(torch.tensor([1.0, 1.0]), max_spikes=15), ("first",)),
        Node("flat", Flatten(), ("fire",)),
        Node("head", Linear(torch.ones(2, 8)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 2, 2)).requires_grad_(False)
    pixels = Preprocessing(channels=1, height=2, width=2, mean=(0.0,), std=(1.0,))
    program = lower(network, timesteps=8, preprocessing=pixels)
    assert program.coarser["fire"] > 1
    images = torch.linspace(0, 1, 4).view(1, 1, 2, 2)
    engine = make_engine("int8", network, timesteps=8, preprocessing=pixels)
    expected = run(make_engine("reference", network, timesteps=8), images, timesteps=8).logits_sum
    torch.testing.assert_close(run(engine, images, timesteps=8).logits_sum, expected, atol=0.5, rtol=0.0)


def test_bounds_hold_where_everything_is_as_large_as_it_can_be(make_network: MakeNetwork) -> None:
    network = make_network(max_spikes=1, signed=False).float()
    program = lower(network, timesteps=8)
    engine = make_engine("int8", network, timesteps=8)
    slots = engine.open(2)
    scale = program.input_scale
    assert scale is not None
    extreme = torch.stack([torch.full((2, 6, 6), bound * scale.step[0]) for bound in (scale.low, scale.high)])
    slots.load(torch.arange(2), extreme)
    for _ in range(8):
        slots.step(torch.arange(2))
    kept = slots._kept  # type: ignore[attr-defined]
    assert max(float(tensor.abs().max()) for tensor in kept.values()) < EXACT_LIMIT


def test_unknown_float_sites_are_refused(network: SpikingNetwork) -> None:
    with pytest.raises(ValueError, match="there are no layers relu1 to keep in float: choose from conv1, conv2, head"):
        lower(network, timesteps=4, float_sites=["relu1"])


def test_pixels_are_integers_without_any_rounding() -> None:
    preprocessing = Preprocessing(channels=1, height=4, width=4, mean=(0.286,), std=(0.353,))
    pixels = torch.arange(0, 256, 16, dtype=torch.uint8).view(1, 1, 4, 4)
    assert torch.equal(InputScale.pixels(preprocessing).quantize(preprocessing(pixels)), pixels.float())


@pytest.mark.parametrize("value", [17.0, float("nan")])
def test_inputs_outside_the_range_of_their_scale_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="outside the input scale of -2048 to 2048 steps"):
        InputScale.fixed_point(1).quantize(torch.full((1, 1, 2, 2), value))


def test_max_pooling_before_the_first_neuron_is_lowered(network: SpikingNetwork) -> None:
    random = torch.Generator().manual_seed(0)
    nodes = [
        Node("conv", Conv2d(torch.randn(3, 1, 3, 3, generator=random), torch.randn(3, generator=random)), (INPUT,)),
        Node("pool", CumulativeDifference(MaxPool2d(kernel=2, stride=2)), ("conv",)),
        Node("fire", IFNeuron(torch.tensor([0.5, 1.0, 2.0]), signed=True, max_spikes=4), ("pool",)),
        Node("flat", Flatten(), ("fire",)),
        Node("head", Linear(torch.randn(2, 12, generator=random)), ("flat",)),
    ]
    net = SpikingNetwork(OpGraph(nodes, "head"), (1, 6, 6)).requires_grad_(False)
    images = torch.randn(4, 1, 6, 6, generator=random)
    sums = run(make_engine("int8", net, timesteps=8), images, None, 8, slots=4).logits_sum
    torch.testing.assert_close(sums, net(images, 8) * 8, rtol=0.02, atol=0.2)


def test_a_leak_is_refused_by_int8_and_run_by_float32() -> None:
    random = torch.Generator().manual_seed(0)
    nodes = [
        Node("conv", Conv2d(torch.randn(3, 1, 3, 3, generator=random)), (INPUT,)),
        Node("leaky", LIFNeuron(0.5), ("conv",)),
        Node("flat", Flatten(), ("leaky",)),
        Node("head", Linear(torch.randn(2, 48, generator=random)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 6, 6)).requires_grad_(False)
    with pytest.raises(UnsupportedError, match=r"leaky \(lif_neuron\): its state does not stay on a fixed-point scale"):
        lower(network, timesteps=4)
    images = torch.randn(3, 1, 6, 6, generator=random)
    spikes: dict[str, float] = {"slots": 0.0, "plain": 0.0}

    def meter(t: int, rows: Tensor, site: str, counts: Tensor) -> None:
        assert site == "leaky"
        spikes["slots"] += float(counts.sum())

    engine = make_engine("float32", network, timesteps=4)
    sums = run(engine, images, None, 4, slots=2, observe=meter).logits_sum
    torch.testing.assert_close(sums, network(images, 4) * 4)
    current, state = network.encode(images), None
    for _ in range(4):
        _, state = network.advance(
            current, state, lambda site, counts: spikes.__setitem__("plain", spikes["plain"] + float(counts.sum()))
        )
    assert spikes["slots"] == spikes["plain"] > 0


def test_smooth_interpolation_is_refused_by_int8_and_run_by_float32() -> None:
    random = torch.Generator().manual_seed(0)
    nodes = [
        Node("conv", Conv2d(torch.randn(3, 1, 3, 3, generator=random)), (INPUT,)),
        Node("fire", IFNeuron(0.5), ("conv",)),
        Node("up", Resize(size=6, mode="bilinear"), ("fire",)),
        Node("flat", Flatten(), ("up",)),
        Node("head", Linear(torch.randn(2, 108, generator=random)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 6, 6)).requires_grad_(False)
    message = (
        r"1 nodes have no exact integer form: up \(resize\): bilinear interpolation multiplies by fractions\. "
        "Run this network with the float32 or the reference engine"
    )
    with pytest.raises(UnsupportedError, match=message):
        lower(network, timesteps=4)
    images = torch.randn(3, 1, 6, 6, generator=random)
    sums = run(make_engine("auto", network, timesteps=4), images, None, 4, slots=2).logits_sum
    torch.testing.assert_close(sums, network(images, 4) * 4)


@pytest.mark.parametrize(("slope", "largest"), [(0.25, 1.0), (-3.0, 3.0)])
def test_a_leaky_site_is_proven_for_what_its_slope_makes_of_it(slope: float, largest: float) -> None:
    pixels = Preprocessing(channels=1, height=6, width=6, mean=(0.0,), std=(1.0,))

    def most(neuron: Neuron) -> int:
        nodes = [
            Node("conv", Conv2d(torch.ones(2, 1, 3, 3), padding=1), (INPUT,)),
            Node("fire", neuron, ("conv",)),
            Node("flat", Flatten(), ("fire",)),
            Node("head", Linear(torch.ones(2, 72) / 64), ("flat",)),
        ]
        network = SpikingNetwork(OpGraph(nodes, "head"), (1, 6, 6)).requires_grad_(False)
        with pytest.raises(UnsupportedError) as caught:
            lower(network, timesteps=10**6, preprocessing=pixels)
        bound = re.search(r"fire: may reach [\d,]+ after 1000000 steps, exact up to T = (\d+)", str(caught.value))
        assert bound is not None
        return int(bound[1])

    plain, leaky = most(IFNeuron(1.0, signed=True)), most(LeakyReLUNeuron(1.0, slope=slope))
    assert plain / leaky == pytest.approx(largest, rel=0.1)
