"""Is the graph of a model the model?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from seenn.capture import to_graph, trace
from seenn.core.graph import OpGraph

Traced = Callable[[nn.Module, Tensor], fx.GraphModule]


class Body(nn.Module):
    """A forward pass given as a function of the module and the image ``[B, 4, 6, 6]``."""

    def __init__(self, body: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


@pytest.fixture
def same() -> Callable[..., OpGraph]:
    """``same(body, *parts)`` traces and asks for equal values in float64; the graph. ``by`` traces another way."""

    def compare(body: Any, *parts: nn.Module, by: Traced = trace, islands: bool = False) -> OpGraph:
        torch.manual_seed(0)
        model = Body(body, *parts).double().eval().requires_grad_(False)
        x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
        graph = to_graph(by(model, x), strict=not islands)
        with torch.no_grad():
            torch.testing.assert_close(graph(x.clone()), model(x.clone()), rtol=1e-12, atol=1e-12)
        return graph

    return compare
