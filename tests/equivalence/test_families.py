"""Twenty families, converted with random weights: the spiking network comes as 1/T nearer to the ANN.

The whole list is run by ``benchmarks/coverage.py``; here are the cheapest members, on tiny images.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.random_weights import convergence, lsuv_initialise
from converter import ConvertConfig, convert_module
from converter.load import ModelSpec, build_model

#: Name and image size; together some twenty families of timm and torchvision, those with islands at the end.
SPIKING = {
    "resnet10t": 32,
    "resnetblur18": 32,
    "repvgg_a0": 32,
    "regnetx_002": 32,
    "mobilenetv2_035": 32,
    "mnasnet_050": 32,
    "tf_efficientnet_lite0": 32,
    "mobilenetv4_conv_small_035": 32,
    "dla46_c": 32,
    "darknet17": 32,
    "cspresnet50": 32,
    "nf_resnet26": 32,
    "resnetv2_18": 32,
    "torchvision:squeezenet1_1": 32,
    "torchvision:shufflenet_v2_x0_5": 32,
}
HYBRID = {
    "lcnet_035": 32,
    "legacy_seresnet18": 32,
    "repghostnet_050": 32,
    "ghostnet_050": 32,
    "hardcorenas_a": 32,
    "skresnet18": 32,
}


@pytest.mark.parametrize("name", [*SPIKING, *HYBRID])
def test_a_converted_family_approaches_its_ann_as_one_over_t(name: str) -> None:
    size = (SPIKING | HYBRID)[name]
    torch.manual_seed(0)
    images = torch.randn(36, 3, size, size)  # the last four are not converted on
    model = lsuv_initialise(build_model(ModelSpec(name=name, num_classes=10)).module, images[:4])
    config = ConvertConfig(timesteps=128, correction="none", neuron="signed", levels=16, analog_islands=name in HYBRID)
    found = convert_module(model, images[:32], config)
    assert found.network.sites
    few, _, many = convergence(found.network, images[32:], (8, 32, 128))
    assert many <= 0.1
    assert many <= few * 16**-0.6  # 16 times the steps: a sixteenth, were it exactly 1/T; few images scatter
