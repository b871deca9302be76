"""COS and SRP: neurons that start from what a pre-pass showed, and figures that count its steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from converter import ConvertConfig, convert_module
from seenn.analysis.collect import collect_run
from seenn.batch import Batch
from seenn.checkpoint import load
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IFNeuron, Linear, PrepassIFNeuron
from seenn.errors import CalibrationError, UnsupportedError
from seenn.exits import ConfidenceExit, FixedExit, find_exit
from seenn.runtime import make_engine
from seenn.snn import SNN
from seenn.training import DirectConfig, OverTime
from tests.runs import run

PREPASS, T = 3, 4


def spikes(currents: list[float], rule: str = "cos", theta: float = 1.0) -> list[float]:
    """What one neuron fires on these currents, after a pre-pass over the same ones."""
    neuron = PrepassIFNeuron(theta, prepass=len(currents), rule=rule)
    x = torch.zeros(1, 1)
    state, lowest, highest = neuron.initial_state(x), torch.full((1, 1), torch.inf), torch.full((1, 1), -torch.inf)
    for current in currents:
        count, state = neuron.fire(x + current, state)
        charged = state[0] + theta * count
        lowest = torch.where(count > 0, torch.minimum(lowest, charged), lowest)
        highest = torch.where(count > 0, highest, torch.maximum(highest, charged))
    state, fired = (neuron.restart(state[0], lowest, highest),), []
    for current in currents:
        count, state = neuron.fire(x + current, state)
        fired.append(float(count.detach()))
    return fired


def test_cos_takes_away_the_spike_that_came_too_early() -> None:
    assert spikes([0.9, 0.0, -1.2]) == [0.0, 0.0, 0.0]  # less than nothing in all; a plain neuron fires once


def test_cos_adds_the_spike_that_came_too_late() -> None:
    assert spikes([-0.6, 0.5, 2.2]) == [0.0, 1.0, 1.0]  # two in all; a plain neuron has no step left for the second


def test_cos_leaves_neurons_that_were_right() -> None:
    assert spikes([1.0, 1.0], theta=2.0) == [1.0, 0.0]


def test_srp_silences_what_ends_below_nothing() -> None:
    assert spikes([0.9, 0.0, -1.2], rule="srp") == [0.0, 0.0, 0.0]
    assert spikes([0.9, 0.0, -0.2], rule="srp") == [1.0, 0.0, 0.0]


def test_rules_have_names() -> None:
    assert PrepassIFNeuron(1.0, prepass=2, rule="srp").title == "if after 2 steps of srp"
    with pytest.raises(ValueError, match="rule must be one of cos, srp, got 'sos'"):
        PrepassIFNeuron(1.0, prepass=2, rule="sos")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)
    ).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def converted(model: nn.Module, images: Tensor, rule: str) -> SpikingNetwork:
    config = ConvertConfig(neuron="if", correction=rule, initial_steps=PREPASS, timesteps=T)
    return convert_module(model, images, config).network.requires_grad_(False)


def by_hand(network: SpikingNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of each step after a pre-pass, and the spikes of the pre-pass, from plain neurons."""
    plain = network.graph.replace(
        {
            node.name: IFNeuron(node.op.v_threshold.data, node.op.v_init.data)
            for node in network.graph
            if isinstance(node.op, PrepassIFNeuron)
        }
    )
    twin = SpikingNetwork(plain, network.input_shape).requires_grad_(False)
    current = twin.encode(images)
    state, charged, fired, total = None, [], [], torch.zeros(len(images))
    for _ in range(PREPASS):
        counts: dict[str, Tensor] = {}
        _, state = twin.advance(current, state, counts.__setitem__)
        layout = zip(twin.state_layout, state, strict=True)
        membranes = {name: v for (name, kind), v in layout if kind == "v"}
        charged.append({name: v + twin.graph[name].op.emit(counts[name]) for name, v in membranes.items()})
        fired.append(counts)
        total += sum(count.flatten(1).sum(1) for count in counts.values())
    start = dict(zip(twin.state_layout, twin.initial_state(len(images), images.dtype), strict=True))
    for name, v in membranes.items():
        stacked, fires = torch.stack([step[name] for step in charged]), torch.stack([step[name] for step in fired]) > 0
        lowest = stacked.where(fires, torch.tensor(torch.inf)).amin(0)
        highest = stacked.where(~fires, torch.tensor(-torch.inf)).amax(0)
        start[name, "v"] = network.graph[name].op.restart(v, lowest, highest)
    state, outputs = tuple(start.values()), []
    for _ in range(T):
        output, state = twin.advance(current, state)
        outputs.append(output)
    return torch.stack(outputs), total


@pytest.mark.parametrize("rule", ["cos", "srp"])
def test_every_engine_and_the_file_run_the_pre_pass(
    model: nn.Module, images: Tensor, rule: str, tmp_path: Path
) -> None:
    network = converted(model, images, rule)
    assert network.initial_steps == PREPASS
    torch.testing.assert_close(network.analog()(images), model(images))
    expected, _ = by_hand(network, images)
    full = run(network, images, None, T)
    torch.testing.assert_close(full.logits_sum_per_step, expected.cumsum(0))
    torch.testing.assert_close(network(images, T), expected.mean(0))
    early = run(network, images, ConfidenceExit(threshold=0.4), T)
    assert len(early.exit_timestep.unique()) > 1
    engine = make_engine("auto", network, timesteps=T)
    assert engine.name == "reference"
    found = run(engine, images, ConfidenceExit(threshold=0.4), T, slots=5)
    assert torch.equal(found.exit_timestep, early.exit_timestep)
    torch.testing.assert_close(found.logits_sum, early.logits_sum)
    SNN(network=network).save(tmp_path / "snn.safetensors")
    again = run(load(tmp_path / "snn.safetensors").network, images, None, T)
    assert torch.equal(again.logits_sum, full.logits_sum)


@pytest.mark.parametrize("slots", [None, 5])
def test_what_a_pre_pass_fires_is_seen(model: nn.Module, images: Tensor, slots: int | None) -> None:
    network = converted(model, images, "cos")
    spent = torch.zeros(T + 1)

    def see(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        spent[t] += count.sum()

    if slots is None:
        run(network, images, None, T, observe=see)
    else:
        run(make_engine("reference", network, timesteps=T), images, None, T, slots=slots, observe=see)
    plain: dict[int, float] = {}

    def watch(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        plain[t] = plain.get(t, 0.0) + float(count.sum())

    run(network, images, None, T, observe=watch)
    assert plain[0] == float(by_hand(network, images)[1].sum()) > 0
    first = plain[0] + plain[1]
    assert spent[:2].sum() == first
    assert spent[2:].tolist() == [plain[t] for t in range(2, T + 1)]


@pytest.mark.parametrize("slots", [5, 32])
def test_the_pre_pass_of_a_sample_is_its_own_whichever_slot_it_takes(
    model: nn.Module, images: Tensor, slots: int
) -> None:
    network = converted(model, images, "cos")
    spent, calls = torch.zeros(len(images)), []

    def see(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        if t == 0:
            spent.index_add_(0, rows, count.flatten(1).sum(1))
            calls.append(len(rows))

    found = run(network, images, ConfidenceExit(threshold=0.4), T, slots=slots, observe=see)
    assert len(found.exit_timestep.unique()) > 1  # slots become free here and there
    assert torch.equal(spent, by_hand(network, images)[1])
    assert max(calls) == slots  # neighbours are seen at once


def test_a_pre_pass_between_rows_that_had_theirs_is_seen_where_it_is(model: nn.Module, images: Tensor) -> None:
    network = converted(model, images, "cos")
    slots = make_engine("reference", network, timesteps=T).open(4)
    slots.load(torch.arange(4), images[:4])
    slots.step(torch.tensor([2]))
    spent = torch.zeros(4)

    def see(site: str, first: int, counts: Tensor, *, initial: bool = False) -> None:
        if initial:
            spent[first : first + len(counts)] += counts.flatten(1).sum(1)

    slots.step(torch.arange(4), observe=see)
    _, expected = by_hand(network, images[:4])
    expected[2] = 0
    assert torch.equal(spent, expected)


def test_calibration_counts_the_pre_pass(model: nn.Module, images: Tensor) -> None:
    network = converted(model, images, "cos")
    run = collect_run(network, [Batch(images, torch.arange(32) % 4)], T)
    plain = SpikingNetwork(
        network.graph.replace({n.name: IFNeuron(1.0) for n in network.graph if n.name in network.sites}), (1, 8, 8)
    )
    first = collect_run(plain, [Batch(images, torch.arange(32) % 4)], T).cost[0]
    assert (float(run.cost[0]), float(first)) == (PREPASS + 1, 1)
    full = find_exit(run, FixedExit())
    assert full.mean_timesteps == PREPASS + T
    found = find_exit(run, ConfidenceExit(), target_timesteps=PREPASS + 2.5)
    assert PREPASS + 1 <= found.mean_timesteps <= PREPASS + 2.5
    assert float(run.curve(found.policy).mean_timesteps[0]) == PREPASS + 1
    with pytest.raises(CalibrationError, match=r"a mean of 3\.5 timesteps: it can give 4 to .* the nearest is 4"):
        find_exit(run, ConfidenceExit(), target_timesteps=PREPASS + 0.5)


def test_what_has_no_pre_pass_says_so(model: nn.Module, images: Tensor) -> None:
    network = converted(model, images, "cos")
    for engine in ("int8", "float32", "bfloat16"):
        with pytest.raises(UnsupportedError, match="does not run the initial steps"):
            make_engine(engine, network, timesteps=T)
    with pytest.raises(UnsupportedError, match="a network with initial steps cannot be trained"):
        OverTime(network, DirectConfig(timesteps=T))
    with pytest.raises(UnsupportedError, match="a network with initial steps cannot be trained"):
        network.unroll(images, T)
    with pytest.raises(UnsupportedError, match="initial steps are over one constant image, got a sequence"):
        run(network, images.expand(T, -1, -1, -1, -1), None, T)
    nodes = [
        Node("a", Linear(torch.eye(2), torch.zeros(2)), (INPUT,)),
        Node("b", PrepassIFNeuron(1.0, prepass=2), ("a",)),
        Node("c", PrepassIFNeuron(1.0, prepass=3), ("b",)),
    ]
    with pytest.raises(ValueError, match="take part in the same initial steps; these want 2, 3 of them"):
        SpikingNetwork(OpGraph(nodes, "c"), (2,))
