"""The comparison of a spiking network with its ANN: what agrees, and where it first does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from converter import check, convert_module
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IFNeuron
from seenn.errors import ConversionError


@pytest.fixture
def network(net: nn.Module, images: Tensor) -> SpikingNetwork:
    return convert_module(net, images).network


def broken(network: SpikingNetwork, site: str, factor: float) -> SpikingNetwork:
    neuron = network.graph[site].op
    assert isinstance(neuron, IFNeuron)
    wrong = IFNeuron(neuron.v_threshold.detach() * factor, **neuron.config())
    return SpikingNetwork(network.graph.replace({site: wrong}), network.input_shape)


def test_sound_network_agrees_with_its_ann(network: SpikingNetwork, net: nn.Module, images: Tensor) -> None:
    answers = net(images).argmax(-1)
    report = check(network, [Batch(images[:30], answers[:30]), Batch(images[30:], answers[30:])], 32)
    assert (report.samples, report.ann_accuracy, report.diverged) == (48, 1.0, None)
    assert len(report.accuracy_per_timestep) == 32
    assert report.agreement == report.accuracy_per_timestep[-1] > 0.9
    assert set(report.relative_error) == {"2", "6"}
    assert max(report.relative_error.values()) < 0.1


@pytest.mark.parametrize("site", ["2", "6"])
def test_first_diverging_site_is_named(site: str, network: SpikingNetwork, images: Tensor) -> None:
    report = check(broken(network, site, 1e4), [Batch(images)], 8)  # a threshold that is never reached
    assert report.diverged == site
    assert report.relative_error[site] == 1.0


def test_labels_are_optional(network: SpikingNetwork, images: Tensor) -> None:
    report = check(network, [Batch(images)], 4)
    assert report.ann_accuracy is None
    assert report.accuracy_per_timestep == ()
    assert 0 <= report.agreement <= 1


def test_site_errors_come_from_the_first_images_only(network: SpikingNetwork, images: Tensor) -> None:
    batches = [Batch(images[:8]), Batch(torch.zeros_like(images[:8]))]
    assert check(network, batches, 4, site_samples=8).relative_error == check(network, batches[:1], 4).relative_error


def test_no_images_are_refused(network: SpikingNetwork) -> None:
    with pytest.raises(ConversionError, match="there are no images to check the conversion on"):
        check(network, [], 4)
