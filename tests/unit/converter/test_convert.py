"""Conversion through the API: a neuron at every call site, the source untouched, clear refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

import seenn
from converter import ConvertConfig, convert, convert_module
from converter.conversion import canonical_graph, place_neurons
from seenn.core.ops import CumulativeDifference, IFNeuron
from seenn.errors import CalibrationError, ConversionError, ModelError, UnsupportedError
from seenn.snn import SNN
from tests.runs import run


class SharedReLU(nn.Module):
    """One ReLU module at two call sites, a residual join, and a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.act, self.head = nn.ReLU(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.one(x))
        x = self.act(self.two(x) + x)
        return self.head(F.relu(x).mean((2, 3)))


class Branches(nn.Module):
    """Depthwise and grouped convolutions joined by concatenation, ReLU6, every kind of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        x = torch.cat([F.relu(self.depthwise(x)), torch.relu(self.grouped(x))], 1)
        x = F.avg_pool2d(F.max_pool2d(x, 2), 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


Enliven = Callable[[nn.Module], nn.Module]


@pytest.mark.parametrize(("model", "sites"), [(SharedReLU(), 3), (Branches(), 4)])
def test_every_call_site_gets_a_neuron(model: nn.Module, sites: int, enliven: Enliven, images: Tensor) -> None:
    found = convert_module(enliven(model), images)
    assert len(found.network.sites) == sites
    assert found.network.sites == found.network.sites
    assert len({id(found.network.graph[site].op) for site in found.network.sites}) == sites
    assert found.float64_difference < 1e-12
    torch.testing.assert_close(found.network.analog()(images), model(images), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        expected = model(images)
        close = found.network(images, timesteps=64)
    assert float((close - expected).norm() / expected.norm()) < 0.05


def test_sites_after_linear_layers_are_calibrated_too(enliven: Enliven, images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))
    found = convert_module(enliven(model), images, ConvertConfig(correction="joint"))
    assert [report.channels for report in found.calibration.reports] == [32, 16]
    with torch.no_grad():
        difference = found.network(images, timesteps=32) - model(images)
    assert float(difference.norm()) < 0.1 * float(model(images).detach().norm())


def test_ceiling_and_max_pool_keep_what_they_stand_for(enliven: Enliven, images: Tensor) -> None:
    graph = convert_module(enliven(Branches()), images).network.graph
    first = next(node.op for node in graph if isinstance(node.op, IFNeuron))
    assert first.ceiling == 6.0
    assert [node.op.op.kind for node in graph if isinstance(node.op, CumulativeDifference)] == ["max_pool2d"]


@pytest.mark.parametrize("training", [True, False])
def test_source_model_is_left_as_it_was(training: bool, net: nn.Module, images: Tensor) -> None:
    net.train(training)
    before = copy.deepcopy(net.state_dict())
    found = convert_module(net, images)
    assert net.training is training
    assert all(module.training is training for module in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(value.dtype == before[key].dtype for key, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert float(found.network.analog()(images).abs().max()) > 0  # nothing is shared


def test_saved_network_computes_the_same_bit_for_bit(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = convert_module(net, images, ConvertConfig(neuron="signed", levels=4, correction="joint"))
    SNN(network=found.network).save(tmp_path / "snn.safetensors")
    again = seenn.load(tmp_path / "snn.safetensors").network
    assert torch.equal(run(found.network, images).logits_sum_per_step, run(again, images).logits_sum_per_step)


def test_double_precision_images_are_taken(net: nn.Module, images: Tensor) -> None:
    assert torch.equal(
        convert_module(net, images.double()).network(images, timesteps=4),
        convert_module(net, images).network(images, timesteps=4),
    )


def test_models_that_cannot_be_converted_are_refused(net: nn.Module, images: Tensor) -> None:
    with pytest.raises(ModelError, match=r"the model already holds neurons: .* seenn\.capture"):
        convert_module(nn.Sequential(nn.Conv2d(3, 4, 3), seenn.IFNeuron()), images)
    with pytest.raises(UnsupportedError, match="the model has no activation, so that all of it is one linear map"):
        convert_module(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), images)
    with pytest.raises(UnsupportedError, match=r"2 calls are outside[^\n]*\n.*Sigmoid[^\n]*\n.*Tanh"):
        convert_module(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Tanh(), nn.ReLU()), images, ConvertConfig(strict=True)
        )
    with pytest.raises(ConversionError, match=r"returns \[B, 4, 6, 6\]: return one score per class, \[B, K\]"):
        convert_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images)
    net[0].weight.data[0, 0, 0, 0] = float("nan")  # type: ignore[index, union-attr]
    net[9].bias.data[:] = float("inf")  # type: ignore[index, union-attr]
    with pytest.raises(ModelError, match=r"2 weights hold NaN or infinite values: 0\.weight, 9\.bias; load a sound"):
        convert_module(net, images)


def test_images_of_another_size_than_the_model_takes_are_refused(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 4), nn.ReLU())
    with pytest.raises(UnsupportedError, match=r"fails on input of shape \[1, 3, 8, 8\] .* size and layout"):
        convert_module(model, images)
    with pytest.raises(CalibrationError, match="too few"):
        convert_module(model, images[:1])


def test_neurons_and_sites_must_match(net: nn.Module, images: Tensor) -> None:
    found = convert_module(net, images)
    graph, neurons = found.network.analog(), dict(found.calibration.neurons)
    with pytest.raises(ConversionError, match="neurons for elsewhere, which are not sites"):
        place_neurons(graph, {**neurons, "elsewhere": seenn.IFNeuron()}, (3, 8, 8))
    del neurons["6"]
    with pytest.raises(ConversionError, match="no neuron for the sites 6: calibrate this same graph first"):
        place_neurons(graph, neurons, (3, 8, 8))


class Habits(nn.Module):
    """Casts and makes tensors of its own as it runs, remembers a table, and loops over a size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.table = nn.Parameter(torch.linspace(-1, 1, 7))
        self.register_buffer("index", torch.tensor([0, 6, 3, 2]))
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "bias" not in self.kept:
            self.kept["bias"] = self.table[self.index]
        x = self.conv(x).relu().float() + self.kept["bias"].view(-1, 1, 1) + torch.full((4, 1, 1), 0.1)
        for _ in range(x.shape[-1] // 3):
            x = torch.relu(x - x.mean((2, 3), keepdim=True))
        return self.head(x.to(torch.float32).mean((2, 3)))


def test_casts_tables_and_tensors_made_inside_are_proven_in_double_precision(images: Tensor) -> None:
    torch.manual_seed(0)
    model = Habits().eval()
    graph, difference, _ = canonical_graph(model, images[:2])
    assert difference < 1e-12
    assert torch.get_default_dtype() == torch.float32
    assert model.kept == {}
    with torch.no_grad():
        torch.testing.assert_close(graph(images), model(images))


def test_branches_that_torchvision_skips_in_training_only(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), StochasticDepth(0.5, "row"), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    graph = canonical_graph(model, images[:2]).graph
    assert [node.op.kind for node in graph] == ["conv2d", "relu", "flatten", "linear"]


def test_a_model_without_parameters_is_converted() -> None:
    net, images = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), torch.randn(40, 3, 8, 8)
    snn = convert(net, images, timesteps=4)
    expected = net(images[:8]).argmax(-1)
    for engine in ("reference", "float32", "int8"):
        assert snn.predict(images[:8], engine=engine).labels.eq(expected).sum() >= 6


@contextmanager
def as_doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "state", [lambda: torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode, as_doubles]
)
def test_what_torch_does_for_the_caller_changes_nothing(state: Callable[[], AbstractContextManager[None]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    images = torch.rand(64, 1, 8, 8)
    expected = convert(model.eval(), images)
    with state():
        found = convert(model, images)
        answers = {name: found.predict(images, engine=name).logits_sum for name in ("reference", "float32", "int8")}
        accuracy = found.evaluate((torch.rand(20, 1, 8, 8), torch.arange(20) % 4)).accuracy
    assert 0 <= accuracy <= 1
    assert found.network.graph.fingerprint() == expected.network.graph.fingerprint()
    for engine, logits in answers.items():
        torch.testing.assert_close(logits, expected.predict(images, engine=engine).logits_sum, check_dtype=False)
