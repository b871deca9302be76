"""Networks that are quantised already: their quantisers are found however they are written, and kept exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function

from converter import ConvertConfig, convert_module
from converter.inspect import inspect_model
from seenn.core.ops import QuantiserNeuron
from seenn.errors import UnsupportedError

IMAGES = torch.rand(32, 1, 6, 6, generator=torch.Generator().manual_seed(0))
ZEROS = torch.tensor([0, 3, 15, 7], dtype=torch.int32)
Quantising = Callable[["Written", Tensor], Tensor]


class Rounded(Function):
    """Rounds, and passes its gradient on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Floored(Rounded):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.floor()


class Written(nn.Module):
    """A quantiser written by hand, with a learned scale."""

    def __init__(self, function: Quantising, scale: Tensor) -> None:
        super().__init__()
        self.function, self.scale = function, nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def qcfs(m: Written, x: Tensor) -> Tensor:
    return Floored.apply((x / m.scale).clamp(0, 1) * 4 + 0.5) / 4 * m.scale  # type: ignore[no-any-return]


def plain_qcfs(m: Written, x: Tensor) -> Tensor:
    return torch.floor(torch.clamp(x / m.scale, 0, 1) * 4 + 0.5) / 4 * m.scale


def lsq(m: Written, x: Tensor) -> Tensor:
    scale = (m.scale - m.scale * 0.1).detach() + m.scale * 0.1
    x = (x / scale).clamp(-8, 7)
    return ((x.round() - x).detach() + x) * scale


def straight_through(m: Written, x: Tensor) -> Tensor:
    x = x / m.scale
    return torch.clamp(x + (torch.round(x) - x).detach(), 0, 7) * m.scale


def detached_first(m: Written, x: Tensor) -> Tensor:
    x = (x / m.scale).clamp(0, 7)
    return (x.round().detach() + x - x.detach()) * m.scale


def pact(m: Written, x: Tensor) -> Tensor:
    alpha = m.scale.squeeze() * 4
    return Rounded.apply(torch.clamp(x, torch.zeros_like(alpha), alpha) * (15 / alpha)) / (15 / alpha)  # type: ignore[no-any-return]


def dorefa(m: Written, x: Tensor) -> Tensor:
    return torch.round(torch.clamp(x, 0, 1) * 15) / 15


def truncating(m: Written, x: Tensor) -> Tensor:
    return torch.floor(torch.relu(x) * 8).clamp(max=15) / 8


def with_zero_point(m: Written, x: Tensor) -> Tensor:
    return (torch.clamp(torch.round(x / m.scale + 3), 0, 15) - 3) * m.scale


def with_zero_points(m: Written, x: Tensor) -> Tensor:
    return (torch.clamp(torch.round(x / m.scale) + ZEROS.view(4, 1, 1), 0, 15) - ZEROS.view(4, 1, 1)) * m.scale


def fake_quantised(m: Written, x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 0.05, 3, 0, 15)


def per_channel(m: Written, x: Tensor) -> Tensor:
    scale = torch.full((4,), 0.05, dtype=torch.float32)
    return torch.fake_quantize_per_channel_affine(x, scale, torch.zeros(4, dtype=torch.int32), 1, -8, 7)


def zero_points_per_channel(m: Written, x: Tensor) -> Tensor:
    return torch.fake_quantize_per_channel_affine(x, torch.full((4,), 0.05), ZEROS, 1, 0, 15)


def learnable_per_channel(m: Written, x: Tensor) -> Tensor:
    scale = torch.full((4,), 0.05)
    return torch._fake_quantize_learnable_per_channel_affine(x, scale, ZEROS.float(), 1, 0, 15, 1.0)


FUNCTIONS = [
    qcfs, plain_qcfs, lsq, straight_through, detached_first, pact, dorefa, truncating, with_zero_point,
    with_zero_points, fake_quantised, per_channel, zero_points_per_channel, learnable_per_channel,
]  # fmt: skip


def network(function: Quantising, scale: Tensor) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), Written(function, scale), nn.Conv2d(4, 4, 3, padding=1),
        Written(function, scale.clone()), nn.Flatten(), nn.Linear(4 * 36, 5),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("scale", [torch.tensor(0.2), torch.linspace(0.1, 0.3, 4).view(4, 1, 1)], ids=["one", "each"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_quantiser_in_any_spelling_is_one_site_that_is_exact_at_t(function: Quantising, scale: Tensor) -> None:
    if function is pact and scale.dim():
        scale = scale.mean()
    model = network(function, scale)
    found = convert_module(model, IMAGES, ConvertConfig(timesteps=8))
    kinds = [type(found.network.graph[site].op) for site in found.network.sites]
    assert kinds == [QuantiserNeuron] * 2
    with torch.no_grad():
        close = ((found.network(IMAGES, 8) - model(IMAGES)).abs() < 1e-4).double().mean()
    assert float(close) > 0.95  # rounding may move a value across the edge of a level


def test_a_fake_quantised_weight_is_folded() -> None:
    class Layer(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            weight = Rounded.apply(self.weight * 8).clamp(-4, 4) / 8
            return self._conv_forward(input, weight, self.bias)

    torch.manual_seed(0)
    model = nn.Sequential(Layer(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    network = convert_module(model, IMAGES).network
    weight = next(node.op for node in network.graph if node.op.kind == "conv2d").tensors()["weight"]
    assert torch.equal(weight * 8, (model[0].weight * 8).round().clamp(-4, 4))


@pytest.mark.parametrize("scale", [0.0, -0.1])
def test_a_scale_that_is_not_positive_is_named(scale: float) -> None:
    with pytest.raises(UnsupportedError, match=f"quantises with a scale of {scale:g}, which must be positive — train"):
        convert_module(network(lsq, torch.tensor(scale)), IMAGES)


def test_rounding_without_limits_is_refused() -> None:
    def unlimited(m: Written, x: Tensor) -> Tensor:
        return torch.round(x * 4) / 4

    with pytest.raises(UnsupportedError, match="rounds without limits — clamp before or after it"):
        convert_module(network(unlimited, torch.tensor(1.0)), IMAGES)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda m, x: torch.clamp(torch.round(x * 4) / 4, 0, 1.93),
            "is clipped between two of its levels — clip to",
        ),
        (
            lambda m, x: torch.round((x * 4).clamp(0, 2.5)) / 4,
            "clips in the middle between two of its levels, and rounds what it clips to even — clip to a multiple",
        ),
        (lambda m, x: torch.fake_quantize_per_tensor_affine(x, 0.0, 0, 0, 15), "divides by 0 — divide by numbers ab"),
        (
            lambda m, x: torch.round(0.5 * (x.abs() - (x + 1).abs() - 1) * -15) / -15,
            "quantises with a scale of -0.0666667, which must be positive",
        ),
        (lambda m, x: (x.clamp(0, 2) * 4).to(torch.int32).float() / 4, r"to: casts activations to int32 — write it as"),
        (lambda m, x: (x.clamp(0, 2) * 4).long().float() / 4, r"long: casts activations to int64 — write it as"),
        (lambda m, x: x.bool().float(), "casts activations to bool"),
    ],
)
def test_what_is_no_quantiser_says_why(function: Quantising, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        convert_module(network(function, torch.tensor(1.0)), IMAGES)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: torch.round((x * 4).clamp(0, 3.5)) / 4,  # 4 either way
        lambda m, x: torch.floor((x * 4).clamp(0, 2.5) + 0.5) / 4,  # 3, as written
        lambda m, x: torch.round((x * 4).clamp(0, 2.5).clamp(0, 2)) / 4,  # never there
    ],
)
def test_a_limit_between_two_levels_is_taken_where_nothing_rounds_it_to_even(function: Quantising) -> None:
    model = network(function, torch.tensor(1.0))
    found = convert_module(model, IMAGES, ConvertConfig(timesteps=8))
    assert [type(found.network.graph[site].op) for site in found.network.sites] == [QuantiserNeuron] * 2
    with torch.no_grad():
        assert float(((found.network(IMAGES, 8) - model(IMAGES)).abs() < 1e-4).double().mean()) > 0.95


@pytest.mark.parametrize("function", [lsq, per_channel, zero_points_per_channel, learnable_per_channel])
def test_inspection_shows_one_site_in_single_precision_too(function: Quantising) -> None:
    found = inspect_model(network(function, torch.tensor(0.1)), (1, 6, 6))
    assert found.convertible
    assert found.sites == 2
    assert len(found.nodes) == (6 if function in (lsq, per_channel) else 10)
