"""Tensors that a model uses and does not own: of its module, of a list, of no module at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter import ConvertConfig, convert, convert_module
from seenn.errors import ModelError, UnsupportedError

WEIGHT = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
OFFSET = torch.linspace(-1, 1, 6)
SHARED = nn.Parameter(WEIGHT / 2)

BODIES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "a global tensor": lambda m, x: F.linear(x - OFFSET, WEIGHT),
    "a global parameter": lambda m, x: x @ SHARED.T,
    "tensors made of it": lambda m, x: torch.einsum("bc,dc->bd", x, WEIGHT * OFFSET),
    "joined with it": lambda m, x: F.linear(x, torch.cat([WEIGHT[:4], SHARED[4:]])),
    "an attribute": lambda m, x: F.linear(x, m.kept),
    "a list": lambda m, x: F.linear(x, m.several[0], m.several[1]),
}


class Model(nn.Module):
    def __init__(self, body: str) -> None:
        super().__init__()
        self.last, self.kept, self.several = nn.Linear(8, 3), WEIGHT * 2, [WEIGHT * 3, torch.ones(8)]
        self.body = BODIES[body]

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(F.relu(self.body(self, x)))
        return answer


@pytest.mark.parametrize("body", BODIES)
def test_a_model_converts_with_tensors_that_it_does_not_own(body: str) -> None:
    torch.manual_seed(0)
    model, x = Model(body).eval(), torch.randn(64, 6)
    snn = convert(model, x, ConvertConfig(timesteps=8))
    with torch.no_grad():
        torch.testing.assert_close(snn.network.analog()(x), model(x))


class Limited(nn.Module):
    """Attention with a mask of −∞, and limits that are infinite."""

    def __init__(self, high: float = torch.inf) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 3)
        self.register_buffer("mask", torch.full((9, 9), -torch.inf).triu(1))
        self.register_buffer("low", torch.tensor(-torch.inf))
        self.register_buffer("high", torch.tensor(high))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2).clamp(self.low, self.high)).chunk(3, -1)
        attention = (q @ k.transpose(1, 2) / 3 + self.mask).softmax(-1)
        return self.head((attention @ v).mean(1))  # type: ignore[no-any-return]


def test_masks_and_limits_may_be_infinite_and_weights_may_not() -> None:
    torch.manual_seed(0)
    images, model = torch.randn(36, 8, 3, 3), Limited().eval()
    network = convert_module(model, images[:32], ConvertConfig(timesteps=32, correction="none")).network
    with torch.no_grad():
        expected = model(images[32:])
        assert float((network(images[32:], 32) - expected).norm() / expected.norm()) < 0.02
    with pytest.raises(ModelError, match="1 weights hold NaN or infinite values: high; load a sound"):
        convert_module(Limited(torch.nan).eval(), images[:32])
    model.head.bias.data[0] = torch.inf
    with pytest.raises(ModelError, match=r"1 weights hold NaN or infinite values: head\.bias; load a sound"):
        convert_module(model, images[:32])
    broken = nn.Sequential(nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).eval()
    broken[1].running_var[0] = torch.inf
    with pytest.raises(ModelError, match=r"1 weights hold NaN or infinite values: 1\.running_var; load a sound"):
        convert_module(broken, images[:32])


def test_what_is_added_is_finite_but_before_softmax() -> None:
    class Added(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x.flatten(1) + torch.tensor([0.0] * 71 + [-torch.inf]))

    with pytest.raises(UnsupportedError, match="adds values that are not finite — use finite numbers, such as -1e4"):
        convert_module(nn.Sequential(Added(), nn.Linear(72, 3)).eval(), torch.randn(32, 8, 3, 3))
