"""COS and SRP: neurons that start again after a pre-pass, and networks that answer only afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from converter import ConvertConfig, NeuronSpec, convert
from converter.config import Correction
from seenn.checkpoint import Checkpoint, load, save
from seenn.engines import make_engine, run_engine, run_reference
from seenn.errors import UnsupportedError
from seenn.exits import ConfidenceExit, FixedExit
from seenn.metrics.energy import snn_energy_pj
from seenn.metrics.synops import dense_cost
from seenn.network import SpikingNetwork
from seenn.ops import DelayedReadout, PrepassIFNeuron

PREPASS, T = 3, 4


def spikes(neuron: PrepassIFNeuron, currents: list[float]) -> list[float]:
    """What one neuron fires on these currents."""
    x = torch.zeros(1, 1)
    state, fired = neuron.initial_state(x), []
    for current in currents:
        count, state = neuron.fire(x + current, state)
        fired.append(float(count.detach()))
    return fired


def test_cos_takes_away_the_spike_that_came_too_early() -> None:
    uneven = [0.9, 0.0, -1.2]  # adds up to less than nothing, and a plain neuron fires once
    neuron = PrepassIFNeuron(1.0, prepass=3)
    assert spikes(neuron, uneven * 2) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_cos_adds_the_spike_that_came_too_late() -> None:
    uneven = [-0.6, 0.5, 2.2]  # adds up to two spikes, and a plain neuron has no step left for the second
    neuron = PrepassIFNeuron(1.0, prepass=3)
    assert spikes(neuron, uneven * 2) == [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]


def test_cos_leaves_neurons_that_were_right() -> None:
    assert spikes(PrepassIFNeuron(2.0, prepass=2), [1.0, 1.0] * 2) == [1.0, 0.0, 1.0, 0.0]


def test_srp_silences_what_ends_below_nothing() -> None:
    neuron = PrepassIFNeuron(1.0, prepass=3, rule="srp")
    assert spikes(neuron, [0.9, 0.0, -1.2, 5.0, 5.0]) == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert spikes(neuron, [0.9, 0.0, -0.2, 0.9, 0.1]) == [1.0, 0.0, 0.0, 1.0, 0.0]


def test_samples_keep_their_own_time() -> None:
    neuron = PrepassIFNeuron(torch.ones(2), prepass=2)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    state = neuron.initial_state(x)
    late = neuron.initial_state(x[:1])
    _, state = neuron.fire(x, state)
    joined = tuple(torch.cat([a, b]) for a, b in zip(state, late, strict=True))
    mixed = torch.cat([x, x[:1]])
    for _ in range(3):
        count, joined = neuron.fire(mixed, joined)
    alone = neuron.initial_state(x[:1])
    for _ in range(3):
        expected, alone = neuron.fire(x[:1], alone)
    assert torch.equal(count[3:], expected)


def test_the_readout_says_nothing_until_the_pre_pass_is_over() -> None:
    readout, x = DelayedReadout(after=2), torch.ones(2, 3)
    state, said = readout.initial_state(x), []
    for _ in range(4):
        output, state = readout.step((x,), state)
        said.append(float(output.detach().sum()))
    assert said == [0.0, 0.0, 6.0, 6.0]


@pytest.mark.parametrize("rule", ["cos", "srp"])
def test_rules_have_names(rule: str) -> None:
    assert PrepassIFNeuron(1.0, prepass=2, rule=rule).title == f"if after 2 steps of {rule}"
    with pytest.raises(ValueError, match="rule must be one of cos, srp, got 'sos'"):
        PrepassIFNeuron(1.0, prepass=2, rule="sos")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)
    ).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def converted(model: nn.Module, images: Tensor, rule: Correction) -> SpikingNetwork:
    config = ConvertConfig(neuron=NeuronSpec.of("if"), correction=rule, prepass=PREPASS, timesteps=T)
    return convert(model, images, config).network


@pytest.mark.parametrize("rule", ["cos", "srp"])
def test_a_network_answers_after_its_pre_pass_and_knows_its_ann(
    model: nn.Module, images: Tensor, rule: Correction, tmp_path: Path
) -> None:
    network = converted(model, images, rule)
    assert network.prepass == PREPASS
    torch.testing.assert_close(network.analog()(images), model(images))
    with torch.no_grad():
        run = run_reference(network, images, FixedExit(), PREPASS + T, keep_logits=True)
        early = run_reference(network, images, ConfidenceExit(threshold=0.5), PREPASS + T)
    assert run.logits_sum_per_step is not None
    assert not run.logits_sum_per_step[:PREPASS].any()
    assert run.logits_sum_per_step[PREPASS].any(-1).all()
    assert int(early.exit_timestep.min()) > PREPASS  # its steps count
    save(tmp_path / "snn.safetensors", Checkpoint(network=network))
    same = load(tmp_path / "snn.safetensors").network
    with torch.no_grad():
        again = run_reference(same, images, FixedExit(), PREPASS + T)
    assert torch.equal(again.logits_sum, run.logits_sum)


def test_the_pre_pass_is_paid_for(model: nn.Module, images: Tensor) -> None:
    network = converted(model, images, "cos")
    spent = torch.zeros(PREPASS + T)
    with torch.no_grad():
        run_reference(
            network,
            images,
            FixedExit(),
            PREPASS + T,
            observe=lambda t, rows, site, count: spent[t - 1].add_(count.abs().sum()),
        )
    assert bool((spent[:PREPASS] > 0).all())
    assert snn_energy_pj(dense_cost(network), 0.0, PREPASS + T) > 0


def test_float_engines_agree_and_int8_says_no(model: nn.Module, images: Tensor) -> None:
    network = converted(model, images, "cos")
    engine = make_engine("float32", network, timesteps=PREPASS + T)
    with torch.no_grad():
        expected = run_reference(network, images, FixedExit(), PREPASS + T)
        found = run_engine(engine, [images], FixedExit(), PREPASS + T, slots=8)
    torch.testing.assert_close(found.logits_sum, expected.logits_sum, rtol=1e-4, atol=1e-4)
    with pytest.raises(UnsupportedError, match="this kind is not lowered"):
        make_engine("int8", network, timesteps=PREPASS + T)
