"""Leaky activations through conversion: neurons with spikes of both signs, calibrated, checked, saved, counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seenn
from converter import MMSE, ConvertConfig, Max, Percentile, check, convert_module
from seenn.analysis.synops import SpikeMeter, traffic
from seenn.batch import Batch
from seenn.core.ops import IFNeuron, LeakyReLU, MaxPool2d, TwoSidedIFNeuron
from seenn.errors import UnsupportedError
from seenn.runtime import Observer, Session, make_engine
from seenn.snn import SNN


class Leaky(nn.Module):
    """LeakyReLU before a max-pool, PReLU after a sum, ReLU before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.prelu = nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8)
        self.hidden, self.head = nn.Linear(8, 12), nn.Linear(12, 5)
        self.prelu.weight.data.uniform_(0.0, 0.8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.leaky_relu(self.norm(self.conv1(x)), 0.1), 2)
        x = self.prelu(x + self.conv2(x)).mean((2, 3))
        return self.head(self.hidden(x).relu())


@pytest.fixture
def leaky(enliven: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return enliven(Leaky())


def test_every_leaky_site_becomes_a_two_sided_neuron_and_back(leaky: nn.Module, images: Tensor) -> None:
    found = convert_module(leaky, images)
    kinds = [type(found.network.graph[site].op) for site in found.network.sites]
    assert kinds == [TwoSidedIFNeuron, TwoSidedIFNeuron, IFNeuron]
    with torch.no_grad():
        torch.testing.assert_close(found.network.analog()(images), leaky(images), rtol=1e-4, atol=1e-5)
    assert found.float64_difference < 1e-12


@pytest.mark.parametrize("recipe", [Max(), Percentile(), MMSE(), MMSE(per_channel=False)])
@pytest.mark.parametrize("correction", ["none", "bias", "potential", "joint"])
def test_recipes_and_corrections_hold_for_them(
    recipe: Max | Percentile | MMSE, correction: str, leaky: nn.Module, images: Tensor
) -> None:
    config = ConvertConfig(recipe=recipe, correction=correction, timesteps=8)
    found = convert_module(leaky, images[:32], config)
    report = check(found.network, [Batch(images[32:])], 8)
    assert report.diverged is None
    assert max(report.relative_error.values()) < 0.35
    assert report.agreement >= 0.75


def test_the_range_covers_both_sides(images: Tensor) -> None:
    negative = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU(2.0), nn.Flatten(), nn.Linear(256, 3)).eval()
    network = convert_module(negative, images, ConvertConfig(recipe=Max(), correction="none")).network
    with torch.no_grad():
        largest = negative[:2](images).abs().amax((0, 2, 3))
    neuron = network.graph[network.sites[0]].op
    assert isinstance(neuron, TwoSidedIFNeuron)
    torch.testing.assert_close(neuron.v_threshold * neuron.max_spikes, largest, rtol=1e-5, atol=0, check_dtype=False)


def test_a_maximum_moves_only_before_monotone_activations(images: Tensor) -> None:
    for slope, first in ((0.1, True), (-0.5, False)):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LeakyReLU(slope), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))
        ops = [node.op for node in convert_module(model.eval(), images).network.analog()]
        pool = next(i for i, op in enumerate(ops) if isinstance(op, MaxPool2d))
        leaky = next(i for i, op in enumerate(ops) if isinstance(op, LeakyReLU))
        assert (pool < leaky) is first


def test_saved_networks_compute_the_same_and_spikes_of_both_signs_count(
    leaky: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    network = convert_module(leaky, images).network
    SNN(network=network).save(tmp_path / "snn.safetensors")
    loaded = seenn.load(tmp_path / "snn.safetensors").network
    with torch.no_grad():
        assert torch.equal(loaded(images[:4], 8), network(images[:4], 8))
    site, meter, seen = network.sites[1], SpikeMeter(network, 8, 4), []

    class Counts(Observer):
        def spikes(self, t: Tensor, samples: Tensor, name: str, counts: Tensor) -> None:
            if name == site:
                seen.append(counts.clone())

    session = Session(make_engine("reference", network, timesteps=8), None, 8)
    session.run(Batch(images[:4]), observers=(meter, Counts()))
    counts = torch.stack(seen)
    assert bool((counts.sum(0) < 0).any())
    assert meter.rates[site] == pytest.approx(float(counts.detach().abs().mean()))
    assert traffic(network)[site] == "spikes"


@pytest.mark.parametrize("neuron", ["if", "burst"])
def test_neurons_of_one_sign_are_refused(neuron: str, leaky: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnsupportedError, match=r"2 activations have values below zero \(.*prelu\).* use signed"):
        convert_module(leaky, images, ConvertConfig(neuron=neuron))
