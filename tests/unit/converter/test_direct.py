from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seenn
from converter import train_direct
from converter.direct import fold_normalisation, prepare_splits, spiking_network, with_neurons
from converter.load import ModelSpec
from seenn.analysis.synops import dense_cost
from seenn.core.ops import BatchNorm, Conv2d, LIFNeuron, Linear, Neuron
from seenn.data import DataSplits, load_data
from seenn.data.encoding import PoissonEncoding
from seenn.data.provenance import load_recorded_data
from seenn.errors import ConversionError, DataError, ModelError, UnsupportedError
from seenn.surrogate import Dspike
from seenn.training import DirectConfig, OptimConfig, TrainConfig
from seenn.training import train_direct as fit_over_time

MAKE = partial(LIFNeuron, surrogate=Dspike())
TRAIN = TrainConfig(epochs=20, batch_size=20, optim=OptimConfig(lr=0.05), label_smoothing=0.0)
T = 3


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> DataSplits:
    """Bright and dark squares: learnable in a few steps."""
    random = np.random.default_rng(0)
    labels = np.arange(160) % 2
    images = random.integers(0, 90, (160, 6, 6)) + 120 * labels[:, None, None]
    path = tmp_path_factory.mktemp("direct") / "data.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return load_data(f"npz:{path}")


def _spec(name: str = "spiking_small", **kwargs: object) -> ModelSpec:
    return ModelSpec(name=name, num_classes=2, in_chans=1, kwargs=kwargs)


@pytest.mark.parametrize("encoding", [None, PoissonEncoding(timesteps=T, seed=5)])
@pytest.mark.parametrize("neuron", ["lif", "if"])
def test_a_trained_network_becomes_the_same_file_as_any_other(
    splits: DataSplits, encoding: PoissonEncoding | None, neuron: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    direct = DirectConfig(timesteps=T, encoding=encoding, mixed_timesteps=True)
    recorded: list[Mapping[str, Any]] = []
    made = train_direct(
        _spec(),
        splits,
        TRAIN,
        direct,
        neuron=neuron,
        width=0.25,
        seed=1,
        open_run=recorded.append,  # type: ignore[func-returns-value]
    )
    source, check = made.manifest["source"], made.manifest["check"]
    assert (source["name"], source["neuron"], source["surrogate"]) == ("spiking_small", f"{neuron}_neuron", "dspike")
    assert recorded[0] == {
        "source": source,
        "direct": direct.to_record(),
        "training": TRAIN.to_record(),
        "data": made.manifest["data"],
    }
    assert made.manifest["direct"]["epochs"] == 20
    assert check["float64_difference"] < 1e-9
    assert check["accuracy_per_timestep"][-1] > 0.9
    assert not any(isinstance(op, BatchNorm) for op in made.network.modules())
    for site in made.network.sites:
        op = made.network.graph[site].op
        assert isinstance(op, Neuron)
        assert torch.equal(op.v_threshold, torch.ones(()))

    made.save(tmp_path / "snn.safetensors")
    loaded = seenn.load(tmp_path / "snn.safetensors")
    again = load_recorded_data(loaded.manifest, loaded.preprocessing)
    images = next(again.exit.batches(8)).inputs
    assert images.dim() == (4 if encoding is None else 5)
    ours, theirs = (net(images, T) if encoding is None else net.unroll(images, T).mean(0)
                    for net in (made.network, loaded.network))  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    found = loaded.evaluate(again.test, policy=seenn.ConfidenceExit(threshold=0.8), engine="reference")
    assert found.ann_accuracy is None
    assert found.accuracy > 0.9
    cost = dense_cost(loaded.network, sequence=encoding is not None)
    first = 36 * 9 * 8  # 6×6 pixels, 3×3 kernels, 8 channels
    assert (cost.once, cost.per_step) == ((first, 0) if encoding is None else (0, first))
    assert found.analog_macs == pytest.approx(first if encoding is None else first * found.exit.mean)


def test_folding_is_proven_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = spiking_network(_spec(), MAKE, (1, 6, 6), width=0.25)
    for op in network.modules():
        if isinstance(op, BatchNorm):
            op.running_mean.uniform_(-0.1, 0.1)
            op.running_var.uniform_(0.01, 0.05)
    images = torch.rand(4, 1, 6, 6)
    folded, difference = fold_normalisation(network, images, T)
    assert difference < 1e-12
    network.eval()
    torch.testing.assert_close(folded.unroll(images, T), network.unroll(images, T), rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(
        "converter.direct.fold_batch_norm",
        lambda graph, shape: graph.replace({"11": Linear(torch.ones(2, 32).double())}),
    )
    with pytest.raises(
        ConversionError,
        match=r"its normalisation folded differs from the source by .* of its largest output in float64",
    ):
        fold_normalisation(network, images, T)


class Shared(nn.Module):
    """A ReLU module that is called twice, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.act, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.act(self.norm(self.a(x))))
        x = self.act(self.b(x.relu()))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_every_activation_call_of_a_model_gets_a_neuron_and_normalisation_stays_live() -> None:
    model = Shared()
    network = with_neurons(model, torch.zeros(2, 1, 10, 10), LIFNeuron)
    assert len(network.sites) == 3
    assert len({id(network.graph[site].op) for site in network.sites}) == 3
    before = model.norm.running_mean.clone()  # type: ignore[union-attr]
    network.unroll(torch.randn(5, 1, 10, 10), T).sum().backward()
    assert not torch.equal(before, model.norm.running_mean)  # type: ignore[arg-type]
    assert model.a.weight.grad is not None


def test_a_softmax_at_the_end_is_left_out_as_by_a_conversion(caplog: pytest.LogCaptureFixture) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2))
    network = with_neurons(nn.Sequential(body, nn.Softmax(1)), torch.zeros(2, 1, 6, 6), MAKE)
    assert "the final softmax is left out: the network returns logits" in caplog.text
    assert network.unroll(torch.randn(5, 1, 6, 6), T).min() < 0


def test_a_model_of_timm_is_trained_with_neurons() -> None:
    kwargs = {"channels": (8, 8, 8, 8), "stem_width": 8, "layers": (1, 1, 1, 1)}
    network, source = spiking_network(_spec("resnet18", **kwargs), MAKE, (1, 12, 12))
    assert (source["name"], len(network.sites)) == ("resnet18", 9)
    assert network.unroll(torch.randn(2, 1, 12, 12), T).shape == (T, 2, 2)


def test_images_of_which_a_single_pixel_is_left_are_traced_as_a_batch() -> None:
    spec = ModelSpec(name="resnet10t", num_classes=10, kwargs={"channels": (8, 8, 8, 8), "stem_width": 8})
    network, _ = spiking_network(spec, LIFNeuron, (1, 8, 8))
    assert network.unroll(torch.randn(2, 1, 8, 8), 2).shape == (2, 2, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet91", r"Did you mean 'resnet"),
        ("spiking_resnet91", r"there is no spiking model 'spiking_resnet91'. Did you mean 'spiking_resnet19'"),
        ("resnet19", r"spiking_resnet19"),
    ],
)
def test_unknown_models_have_near_names(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        spiking_network(_spec(name), MAKE, (1, 8, 8))


def test_what_does_not_fit_is_refused(splits: DataSplits) -> None:
    with pytest.raises(ValueError, match=r"width is for spiking_small, spiking_resnet19, .*; give resnet18 its own"):
        spiking_network(_spec("resnet18"), MAKE, (1, 8, 8), width=0.5)
    with pytest.raises(UnsupportedError, match="no ReLU"):
        with_neurons(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), torch.zeros(2, 1, 6, 6), MAKE)
    with pytest.raises(ValueError, match="timesteps must be an integer from 1"):
        DirectConfig(timesteps=0)
    same = copy.copy(splits.train)
    same.labels = torch.zeros_like(same.labels)
    network, _ = spiking_network(_spec(), MAKE, (1, 6, 6), width=0.25)
    with pytest.raises(DataError, match="have the label 0: there is nothing to tell apart"):
        fit_over_time(network, replace(splits, train=same), TRAIN, DirectConfig(timesteps=T))
    with pytest.raises(DataError, match=r"comes as 5 frames of events, got 3 timesteps: one frame is one timestep"):
        prepare_splits(replace(splits, frames=5), DirectConfig(timesteps=T))
    encoded = DirectConfig(timesteps=T, encoding=PoissonEncoding(timesteps=T))
    with pytest.raises(DataError, match=r"3 frames of events, got 3 timesteps of Poisson spikes"):
        prepare_splits(replace(splits, frames=T), encoded)


def test_convolutions_of_the_models_have_no_bias_before_folding_and_one_after() -> None:
    network, _ = spiking_network(_spec(), MAKE, (1, 6, 6), width=0.25)
    assert all(op.bias is None for op in network.modules() if isinstance(op, Conv2d))
    folded, _ = fold_normalisation(network, torch.rand(2, 1, 6, 6), T)
    assert all(op.bias is not None for op in folded.modules() if isinstance(op, Conv2d))
