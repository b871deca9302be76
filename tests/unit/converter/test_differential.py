"""Conversion to spikes that carry how running means change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import seenn
from cli.main import seenn as command
from converter import ConvertConfig, convert, convert_module
from converter.passes import differential
from seenn import SNN, FixedExit, IFNeuron, SpikingNetwork, UnsupportedError
from seenn.analysis.synops import SpikeMeter, dense_cost, running_means
from seenn.batch import Batch
from seenn.data import as_split
from seenn.exits import ConfidenceExit
from seenn.export import FORMATS
from seenn.training.heads import add_heads

T = 16


class Gated(nn.Module):
    """Convolutions, a maximum, a gate and a normalisation: every kind of op over time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.gate = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3), nn.Conv2d(6, 8, 3)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.first(x).relu(), 2)
        x = self.second(x).relu() * self.gate(x).sigmoid()
        return self.head(self.norm(x.flatten(2).mean(-1)))


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def converted(coding: str, timesteps: int = T) -> SpikingNetwork:
    config = ConvertConfig.suited(coding=coding, timesteps=timesteps, correction="none")
    return convert_module(Gated().eval(), images(64, 0), config).network.requires_grad_(False)


@pytest.fixture(scope="module")
def network() -> SpikingNetwork:
    return converted("differential")


def test_it_follows_its_ann_ever_closer(network: SpikingNetwork) -> None:
    ann, seen = Gated().eval(), images(32, 1)
    with torch.no_grad():
        wanted = ann(seen)
        errors = [float((network(seen, t) - wanted).norm() / wanted.norm()) for t in (2, 8, 32)]
        twin = network.analog()(seen)
    torch.testing.assert_close(twin, wanted, rtol=1e-4, atol=1e-4)
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.1


def test_it_fires_less_than_rate_coding_and_costs_an_initial_step(network: SpikingNetwork) -> None:
    batch = Batch(images(16, 2))
    rate = converted("rate")
    spikes = {}
    for name, each in (("rate", rate), ("differential", network)):
        meter = SpikeMeter(each, T, len(batch))
        answers = SNN(network=each, manifest={"timesteps": T}).session("reference").run(batch, observers=[meter])
        spikes[name] = meter.totals["spikes"]
        assert answers.cost.tolist() == [T + (name == "differential")] * len(batch)
    assert spikes["differential"] < 0.6 * spikes["rate"]
    assert (network.initial_steps, rate.initial_steps) == (1, 0)
    ours, theirs = dense_cost(network), dense_cost(rate)
    assert (ours.spiking, ours.per_step, ours.ann) == (theirs.spiking, theirs.per_step, theirs.ann)
    assert running_means(network) == running_means(rate)


def test_the_file_and_the_exits_hold_it(network: SpikingNetwork, tmp_path: Path) -> None:
    snn = SNN(network=network, manifest={"timesteps": T}, policy=ConfidenceExit(threshold=0.5))
    snn.save(tmp_path / "a.safetensors")
    loaded = seenn.load(tmp_path / "a.safetensors")
    seen = images(8, 3)
    for policy in (None, FixedExit(timesteps=3)):
        before, after = snn.predict(seen, policy=policy), loaded.predict(seen, policy=policy)
        assert torch.equal(before.logits_sum, after.logits_sum)
        assert torch.equal(after.cost, after.exit_timestep + 1.0)
    torch.testing.assert_close(loaded.predict(seen, policy=FixedExit()).logits_sum / T, network(seen, T))


def test_what_cannot_run_it_says_so(network: SpikingNetwork) -> None:
    snn = SNN(network=network, manifest={"timesteps": T})
    for engine in ("float32", "int8", "bfloat16"):
        with pytest.raises(UnsupportedError, match="initial steps of a network: run it with the reference engine"):
            snn.make_engine(engine)
    assert snn.make_engine("auto").name == "reference"
    with pytest.raises(UnsupportedError, match="cannot start warm"):
        snn.stream([], warm=True)
    with pytest.raises(UnsupportedError, match="initial steps are over one constant image"):
        snn.predict(torch.zeros(T, 2, 1, 8, 8))
    with pytest.raises(UnsupportedError, match="a network with initial steps cannot be trained"):
        network.refuse_training()
    for format in FORMATS.names():
        with pytest.raises(UnsupportedError, match=f"{format} files hold rate coding, .*convert with --coding rate"):
            snn.export("a", to=format)
    split = as_split((images(64, 5), torch.arange(64) % 4), "train", None)
    with pytest.raises(UnsupportedError, match=r"heads read what neurons emit in a step.*convert with --coding rate"):
        add_heads(network, split, engine=snn.make_engine("reference"), timesteps=T)


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="needs spikes of both signs, and if neurons have one: take signed"):
        ConvertConfig.suited(coding="differential", neuron="if")
    with pytest.raises(ValueError, match="leaves no mean error to correct: leave out potential"):
        ConvertConfig.suited(coding="differential", correction="potential")
    with pytest.raises(ValueError, match="coding must be rate or differential, got 'time'"):
        ConvertConfig(coding="time")  # type: ignore[arg-type]


def test_quantised_activations_are_refused() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    network = convert_module(plain.eval(), images(32, 0), ConvertConfig(timesteps=4)).network
    quantised = network.graph.replace({network.sites[0]: IFNeuron(0.5, levels=4)})
    with pytest.raises(UnsupportedError, match=r"1 activations are quantised .* convert with --coding rate"):
        differential(SpikingNetwork(quantised, network.input_shape))


def test_sites_are_compared_with_their_ann_by_what_spikes_are_worth() -> None:
    data = Batch(images(96, 4), torch.arange(96) % 4)
    snn = convert(Gated().eval(), data, coding="differential", timesteps=T, force=True)
    sites = snn.manifest["per_site"]
    assert len(sites) > 2
    assert max(site["relative_error"] for site in sites) < 0.1
    assert snn.manifest["check"]["output_error"] < 0.1
    assert snn.manifest["check"]["diverged"] is None
    assert snn.manifest["conversion"]["coding"] == "differential"


def test_the_command_line_refuses_what_does_not_go_together() -> None:
    typed = "convert --model resnet18 --ckpt a.pth --coding differential --neuron if"
    done = CliRunner().invoke(command, typed.split())
    assert done.exit_code == 2
    assert "differential coding needs spikes of both signs" in done.stderr
