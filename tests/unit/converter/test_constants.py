"""Tensors that a model uses and does not own: of its module, of a list, of no module at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter import ConvertConfig, convert

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
