"""Real architectures: the captured graph is the model, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seenn.capture import to_graph, trace


def _torchvision(name: str) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None)
    return model


def _timm(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name)
    return model


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (_torchvision, "resnet18"),
        (_torchvision, "shufflenet_v2_x0_5"),
        (_timm, "resnet10t"),
        (_timm, "res2net50_26w_4s"),
    ],
)
def test_the_graph_of_a_real_model_equals_it(make: object, name: str) -> None:
    assert callable(make)
    torch.manual_seed(0)
    model = make(name).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 64, 64)
    graph = to_graph(trace(model, images)).double()  # the parameters are the model's own
    images = images.double()
    with torch.no_grad():
        expected = model.double()(images)
        torch.testing.assert_close(graph(images), expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))
