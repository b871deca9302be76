"""Families, converted with random weights: spikes feed all that is multiplied, and 1/T of the error is left.

The whole list is run by ``benchmarks/coverage.py``; here are the cheapest members, on tiny images.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.random_weights import convergence, lsuv_initialise
from converter import ConvertConfig, convert_module
from converter.load import ModelSpec, build_model
from seenn.analysis.synops import dense_cost
from tests.operands import check_operands

#: Each of another kind: blurred pooling, inverted bottlenecks, activations first, joins by channels, shuffled channels;
#: depthwise joins, gates, LayerNorm and GELU, attention.
NAMES = (
    "resnetblur18",
    "mobilenetv4_conv_small_035",
    "resnetv2_18",
    "torchvision:squeezenet1_1",
    "torchvision:shufflenet_v2_x0_5",
    "ghostnet_050",
    "mobilenetv3_small_050",
    "convnext_atto",
    "vit_tiny_patch16_224",
)
SIZE = 32


@pytest.mark.parametrize("name", NAMES)
def test_spikes_feed_all_of_a_family_and_bring_it_as_one_over_t_nearer_to_its_ann(name: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(36, 3, SIZE, SIZE)  # the last four are not converted on
    kwargs = {"img_size": SIZE, "depth": 3} if "vit" in name else {}
    model = lsuv_initialise(build_model(ModelSpec(name=name, num_classes=10, kwargs=kwargs)).module, images[:4])
    config = ConvertConfig(timesteps=64, correction="none", neuron="signed", levels=16)
    network = convert_module(model, images[:32], config).network
    cost = dense_cost(network)
    assert cost.spiking_mac_share == 1.0  # of what is behind the first layers,
    assert cost.ann == cost.once + cost.spiking  # which see the image itself, once
    assert check_operands(network, images[:2], 2)
    few, many = convergence(network, images[32:], (4, 64))
    assert many <= 0.1
    assert many <= max(few * 16**-0.6, 0.01)  # 16 times the steps: a sixteenth, were it exactly 1/T; few images scatter


@pytest.mark.parametrize("name", ["mobilenetv4_conv_small_035", "darknet17"])
def test_families_of_affine_layers_and_relus_convert_strictly(name: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(16, 3, SIZE, SIZE)
    model = lsuv_initialise(build_model(ModelSpec(name=name, num_classes=10)).module, images[:4])
    assert convert_module(model, images, ConvertConfig(correction="none", strict=True)).network.running_means == ()
