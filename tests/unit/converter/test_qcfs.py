"""QCFS activations at call sites, and what conversion makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter import ConvertConfig, convert_module
from converter.qcfs import SCRATCH, with_qcfs
from converter.recipes.qcfs import Learned
from seenn.core.ops import QCFS, IFNeuron
from seenn.errors import ConversionError, UnsupportedError


class Block(nn.Module):
    """One ReLU module used twice, one functional ReLU, batch normalisation, dropout and a max-pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.mix = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.norm(self.conv(x))))
        x = self.act(self.mix(x) + x)
        return self.head(F.relu(self.drop(x)).flatten(1))  # type: ignore[no-any-return]


def block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


IMAGES = torch.rand(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_every_call_gets_a_threshold_of_its_own_and_all_else_keeps_its_name() -> None:
    model = block()
    swapped = with_qcfs(model, IMAGES[:2], levels=4)
    sites = {name for name, module in swapped.named_modules() if isinstance(module, QCFS)}
    assert sites == {"act", "act_2", "relu"}
    assert swapped.state_dict().keys() - model.state_dict().keys() == {f"{site}.v_threshold" for site in sites}
    assert all(bool((swapped.get_submodule(site).v_threshold == SCRATCH).all()) for site in sites)
    assert isinstance(model.act, nn.ReLU)  # the model itself is as it was


def test_normalisation_learns_and_dropout_drops_in_training_mode() -> None:
    swapped = with_qcfs(block(), IMAGES[:2], levels=4).train()
    before = swapped.get_submodule("norm").running_mean.clone()
    first, second = swapped(IMAGES), swapped(IMAGES)
    assert not torch.equal(swapped.get_submodule("norm").running_mean, before)
    assert not torch.equal(first, second)


def test_fitted_thresholds_keep_the_answers_of_the_model() -> None:
    model = block()
    swapped = with_qcfs(model, IMAGES[:2], levels=16, images=IMAGES)
    with torch.no_grad():
        expected, found = model(IMAGES), swapped(IMAGES)
    assert float((expected - found).abs().max()) < 0.1 * float(expected.abs().max())
    with torch.no_grad():
        assert float((with_qcfs(model, IMAGES[:2], levels=16)(IMAGES) - expected).abs().max()) > float(
            (found - expected).abs().max()
        )


def test_conversion_copies_the_thresholds_and_the_twin_is_the_network_that_was_trained() -> None:
    swapped = with_qcfs(block(), IMAGES[:2], levels=4, images=IMAGES)
    network = convert_module(swapped, IMAGES, ConvertConfig.suited(qcfs_levels=4)).network
    assert network.sites == ("act", "act_2", "relu")
    for site in network.sites:
        neuron = network.graph[site].op
        assert isinstance(neuron, IFNeuron)
        assert torch.equal(neuron.v_threshold, swapped.get_submodule(site).v_threshold)
        assert (neuron.v_init.item(), neuron.levels, neuron.max_spikes) == (0.5, 4, 1)
    with torch.no_grad():
        close = (network.analog()(IMAGES) - swapped(IMAGES)).abs() < 1e-5
    assert float(close.double().mean()) > 0.95  # rounding may move a value across the edge of a level


def test_corrections_apply_to_qcfs_networks_and_leave_the_thresholds() -> None:
    swapped = with_qcfs(block(), IMAGES[:2], levels=4, images=IMAGES)
    config = replace(ConvertConfig.suited(qcfs_levels=4), correction="potential")
    neuron = convert_module(swapped, IMAGES, config).network.graph["act_2"].op
    assert isinstance(neuron, IFNeuron)
    assert torch.equal(neuron.v_threshold, swapped.get_submodule("act_2").v_threshold)
    assert neuron.v_init.shape == (4,)


def test_an_activation_that_brings_its_threshold_keeps_it_whatever_the_recipe() -> None:
    swapped = with_qcfs(block(), IMAGES[:2], levels=4, images=IMAGES)
    network = convert_module(swapped, IMAGES, ConvertConfig(timesteps=4)).network  # signed neurons, mmse
    with torch.no_grad():
        close = (network(IMAGES, 4) - swapped(IMAGES)).abs() < 1e-5
    assert float(close.double().mean()) > 0.95  # rounding may move a value across the edge of a level
    with pytest.raises(ConversionError, match="the qcfs recipe copies learned thresholds, and a ReLU has none"):
        convert_module(block(), IMAGES, ConvertConfig.suited(qcfs_levels=4))


def test_models_without_a_relu_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="no ReLU activation"):
        with_qcfs(nn.Sequential(nn.Flatten(), nn.Linear(36, 5)), IMAGES[:2], levels=4)


@pytest.mark.parametrize("correction", ["bias", "potential", "joint"])
def test_an_activation_that_is_always_zero_has_no_error_to_correct(correction: str) -> None:
    net, images = block(), torch.rand(32, 1, 6, 6)
    dead = with_qcfs(net, images[:2], levels=4).eval()
    with torch.no_grad():
        conv = next(module for module in dead.modules() if isinstance(module, nn.Conv2d))
        conv.weight.zero_()
        assert conv.bias is not None
        conv.bias.fill_(-1.0)
        for norm in (module for module in dead.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.bias.fill_(-1.0)
    found = convert_module(dead, images, ConvertConfig(recipe=Learned(), neuron="if", correction=correction))
    assert found.calibration.reports[0].relative_error == 0.0
    assert found.network(images[:4], 2).isfinite().all()
