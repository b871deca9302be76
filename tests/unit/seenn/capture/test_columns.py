"""Models that keep images in columns: W @ x with x [features, B]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seenn.core.graph import OpGraph
from seenn.core.ops import Linear

W = torch.randn(5, 144, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
B = torch.randn(5, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
V = torch.randn(7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

COLUMNS: dict[str, Callable[[Tensor], Tensor]] = {
    "an operator": lambda x: (V @ (W @ x + B).relu()).T,
    "a function": lambda x: torch.mm(V, torch.matmul(W, x).relu()).t(),
    "a method": lambda x: V.mm(W.matmul(x).relu()).permute(1, 0),
    "with its bias": lambda x: (V @ torch.addmm(B, W, x).relu()).T,
    "rows at the end": lambda x: nn.functional.linear((W @ x).relu().T, V),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_products_with_images_in_columns_are_linear_layers(kind: str, same: Callable[..., OpGraph]) -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        return COLUMNS[kind](x.flatten(1).T)

    graph = same(body)
    assert sum(isinstance(node.op, Linear) for node in graph) == 2
