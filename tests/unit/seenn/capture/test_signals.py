"""Layers on signals ``[B, C, L]``: the graph computes what the module does, traced either way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture import to_graph, trace, trace_exported

CALLS: dict[str, Callable[[], Any]] = {
    "strided convolution": lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1),
    "grouped, dilated, same": lambda: nn.Conv1d(4, 4, 3, padding="same", groups=2, dilation=2, bias=False),
    "reflecting convolution": lambda: nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"),
    "transposed": lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed, grouped": lambda: nn.ConvTranspose1d(4, 6, 4, stride=2, groups=2, dilation=2),
    "max pool": lambda: nn.MaxPool1d(3, 2, 1),
    "max pool by function": lambda: lambda x: F.max_pool1d(x, 2, ceil_mode=True),
    "average pool": lambda: nn.AvgPool1d(3, 2, 1),
    "average pool by function": lambda: lambda x: F.avg_pool1d(x, 3, count_include_pad=False, padding=1),
    "adaptive average": lambda: nn.AdaptiveAvgPool1d(3),
    "adaptive maximum": lambda: nn.AdaptiveMaxPool1d(2),
    "maximum along": lambda: lambda x: x.max(2)[0] + x.amax(-1, keepdim=True).squeeze(2),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "linear": lambda: nn.Upsample(scale_factor=2, mode="linear"),
    "aligned corners": lambda: lambda x: F.interpolate(x, size=17, mode="linear", align_corners=True),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "instance norm of stored statistics": lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
    "reflection": lambda: nn.ReflectionPad1d(2),
    "replication": lambda: nn.ReplicationPad1d((1, 2)),
    "constant border": lambda: nn.ConstantPad1d(2, 0.5),
    "roll and flip": lambda: lambda x: torch.roll(x, 2, -1).flip(-1),
    "layers": lambda: nn.Sequential(
        nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 4, 3), nn.Flatten()
    ),
}


class Body(nn.Module):
    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("call", CALLS)
def test_a_layer_on_signals_is_that_on_images_one_pixel_high(call: str, by: Any) -> None:
    torch.manual_seed(0)
    model = Body(CALLS[call]()).double().eval().requires_grad_(False)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.InstanceNorm1d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, 4, 12, dtype=torch.float64)
    torch.testing.assert_close(to_graph(by(model, x))(x), model(x), rtol=1e-12, atol=1e-12)


def test_reshapes_between_layers_are_gone() -> None:
    model = Body(CALLS["layers"]()).eval().requires_grad_(False)
    kinds = [node.op.kind for node in to_graph(trace(model, torch.zeros(2, 4, 12)))]
    assert kinds.count("reshape") == 4  # in, around the activation, and out
