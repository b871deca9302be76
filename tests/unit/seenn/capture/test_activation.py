from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seenn.core.ops import LeakyReLU, ReLU

Same = Callable[..., Any]


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: F.leaky_relu(x, 0.2),
        lambda m, x: F.leaky_relu(x * 1, 0.2, inplace=True),
        lambda m, x: F.prelu(x, torch.full((1,), 0.2, dtype=torch.float64)),
        lambda m, x: m.parts[0](x),
        lambda m, x: m.parts[1](x),
        lambda m, x: m.parts[2](x),
        lambda m, x: F.rrelu(x, 0.1, 0.3),
        lambda m, x: F.leaky_relu(x.mean((2, 3)), 0.2),
    ],
)
def test_every_spelling_of_a_leaky_activation_is_one(body: Any, same: Same) -> None:
    graph = same(body, nn.LeakyReLU(0.2, inplace=False), nn.PReLU(init=0.2), nn.RReLU(0.1, 0.3))
    (slope,) = [node.op.slope for node in graph if isinstance(node.op, LeakyReLU)]
    assert slope.dtype == torch.float64
    assert slope.item() == pytest.approx(0.2, rel=1e-6)


def test_a_prelu_has_a_slope_per_channel_and_the_absolute_value_is_a_leaky_activation_too(same: Same) -> None:
    prelu = nn.PReLU(4)
    prelu.weight.data = torch.tensor([0.1, 0.2, -0.3, 1.5])
    graph = same(lambda m, x: m.parts[0](x).abs(), prelu)
    slopes = [node.op.slope.tolist() for node in graph if isinstance(node.op, LeakyReLU)]
    assert slopes == [pytest.approx([0.1, 0.2, -0.3, 1.5]), -1.0]


@pytest.mark.parametrize(
    ("body", "ceiling"),
    [
        (lambda m, x: F.threshold(x, 0.0, 0.0), None),
        (lambda m, x: m.parts[0](x), None),
        (lambda m, x: x.clamp_min(0), None),
        (lambda m, x: F.hardtanh(x, 0.0, 1.5), 1.5),
        (lambda m, x: F.relu6(x * 3), 6.0),
        (lambda m, x: torch.clip(x, 0, 2), 2.0),
    ],
)
def test_thresholds_and_clips_from_zero_are_relus(body: Any, ceiling: float | None, same: Same) -> None:
    graph = same(body, nn.Threshold(0.0, 0.0))
    assert [node.op.ceiling for node in graph if isinstance(node.op, ReLU)] == [ceiling]
