"""What is changed in place is read as changed, as eager code does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch.nn.functional as F
from torch import nn

from seenn.capture import trace, trace_exported

BODIES: dict[str, Any] = {
    "method": lambda m, x: (y := x * 2, y.relu_() + y)[1],
    "function": lambda m, x: (y := x * 2, F.relu(y, inplace=True) + y)[1],
    "module": lambda m, x: (y := x * 2, m.parts[0](y) + y)[1],
    "sum": lambda m, x: (y := x * 2, y.add_(x), y.relu())[2],
    "the output": lambda m, x: (y := x * 2, y.relu_(), y)[2],
    "twice": lambda m, x: (y := x * 2, y.relu_(), y.add_(x), y.mul_(3), y + x)[4],
    "the image": lambda m, x: (y := x.relu_(), x + y)[1],
    "before and after": lambda m, x: (y := x * 2, z := y + 1, y.relu_(), y * 2 + z)[3],
    "an alias": lambda m, x: (y := x * 2, z := y.contiguous(), z.relu_(), y + z)[3],
    "a shared module": lambda m, x: (y := x * 2, a := m.parts[0](y), b := m.parts[0](y - 1), a + b + y)[3],
}


@pytest.mark.parametrize("by", [trace, trace_exported])
@pytest.mark.parametrize("case", BODIES)
def test_reads_after_a_change_in_place_see_it(case: str, by: Any, same: Callable[..., Any]) -> None:
    same(BODIES[case], nn.ReLU(inplace=True), by=by)
