"""ReLUs and clips however they are spelled, and calls that are linear: traced either way, the graph is the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture import build_graph, to_graph, trace, trace_exported
from seenn.core.graph import OpGraph
from seenn.core.ops import ReLU
from seenn.errors import UnsupportedError


class Body(nn.Module):
    """A function of the module and of images ``[B, 4, 6, 6]``."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.call = call
        self.bound, self.bounds = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.rand(4, 1, 1) + 0.2)
        self.weight, self.bias = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(5))
        self.register_buffer("zero", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


Call = Callable[[Any, Tensor], Tensor]
ONE_RELU: dict[str, Call] = {
    "where": lambda m, x: torch.where(x > 0, x, 0),
    "where the other way": lambda m, x: torch.where(x <= 0, torch.zeros_like(x), x),
    "where with a buffer": lambda m, x: torch.where(x > 0, x, m.zero),
    "where as a method": lambda m, x: x.where(x > 0, torch.zeros_like(x)),
    "times its sign": lambda m, x: x * (x > 0),
    "times its sign as floats": lambda m, x: (x >= 0).to(x.dtype) * x,
    "times its sign of its type": lambda m, x: x * (x > 0).type_as(x),
    "maximum": lambda m, x: torch.maximum(x, torch.zeros_like(x)),
    "max": lambda m, x: torch.max(x, torch.tensor(0.0, dtype=x.dtype)),
    "max with a buffer": lambda m, x: torch.max(m.zero, x),
    "clamp": lambda m, x: x.clamp(min=0),
    "clip": lambda m, x: torch.clip(x, 0, 6),
    "two clamps": lambda m, x: x.clamp_min(0).clamp_max(6),
    "clamp before": lambda m, x: x.clamp(max=2.0).relu(),
    "minimum of a maximum": lambda m, x: torch.min(torch.maximum(x, m.zero), m.zero + 6),
    "threshold": lambda m, x: F.threshold(x, 0, 0),
    "filled": lambda m, x: x.masked_fill(x < 0, 0),
    "mean with its size": lambda m, x: (x + x.abs()) / 2,
    "learned bound": lambda m, x: torch.clamp(x, m.zero, m.bound),
    "learned bound of PACT": lambda m, x: 0.5 * (x.abs() - (x - m.bound).abs() + m.bound),
}
SEVERAL: dict[str, Call] = {
    "leaky where": lambda m, x: torch.where(x > 0, x, 0.1 * x),
    "below zero": lambda m, x: x * (x < 0) + torch.min(x, torch.zeros_like(x)),
    "a bound a channel": lambda m, x: torch.clamp(x, torch.zeros_like(m.bounds), m.bounds),
    "the larger of it and a constant": lambda m, x: torch.maximum(x, m.bounds) + torch.minimum(x, m.bounds),
    "pixel shuffle": lambda m, x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 3),
    "channel shuffle": lambda m, x: F.channel_shuffle(x, 2),
    "addmm": lambda m, x: torch.addmm(m.bias, x.flatten(1)[:, :6], m.weight, beta=0.5, alpha=2),
    "addmm of activations": lambda m, x: torch.addmm(x.flatten(1)[:, :5], x.flatten(1)[:, :6], m.weight),
    "rolls and flips": lambda m, x: x.roll((1, 2), (2, 3)).flip(2),
    "unfold and fold": lambda m, x: F.fold(F.unfold(x, 3, padding=1), (6, 6), 3, padding=1),
    "windows": lambda m, x: x.unfold(2, 3, 2).unfold(3, 2, 1),
    "diagonals": lambda m, x: torch.diagonal(x, 1, 2, 3) + x.diagonal(dim1=-2, dim2=-1, offset=-1),
    "stored statistics": lambda m, x: F.instance_norm(x, m.bounds[:, 0, 0], m.bounds[:, 0, 0], use_input_stats=False),
    "moves of axes": lambda m, x: x.movedim((1, 2), (2, 3)).movedim(1, -1),
    "lerp": lambda m, x: torch.lerp(x, x.flip(2), 0.3),
}


def traced(call: Call, by: Any) -> OpGraph:
    model = Body(call).double().eval().requires_grad_(False)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = to_graph(by(model, x))
    torch.testing.assert_close(graph(x), model(x), rtol=1e-12, atol=1e-12)
    return graph


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("spelling", ONE_RELU)
def test_a_relu_is_one_however_it_is_spelled(spelling: str, by: Any) -> None:
    (node,) = traced(ONE_RELU[spelling], by)
    assert isinstance(node.op, ReLU)


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("spelling", SEVERAL)
def test_what_is_linear_or_clips_is_expressed(spelling: str, by: Any) -> None:
    traced(SEVERAL[spelling], by)


GATES_AND_NORMS: dict[str, Call] = {
    "gated": lambda m, x: F.glu(x, 1),
    "gated along the last axis": lambda m, x: F.glu(x),
    "local response": lambda m, x: F.local_response_norm(x, 3, alpha=0.1, k=2.0),
    "by the sum of magnitudes": lambda m, x: F.normalize(x, p=1, dim=1),
    "by another norm": lambda m, x: F.normalize(x, p=3.0, dim=(2, 3)),
    "norms": lambda m, x: x.norm(1, 1) + torch.linalg.vector_norm(x, 3, dim=1) + torch.linalg.norm(x, 1, dim=1),
    "of each channel": lambda m, x: F.instance_norm(x, weight=m.bounds.flatten(), bias=m.bounds.flatten()),
}


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("spelling", GATES_AND_NORMS)
def test_gates_and_norms_are_expressed_as_functions_too(spelling: str, by: Any) -> None:
    model = Body(GATES_AND_NORMS[spelling]).double().eval().requires_grad_(False)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = build_graph(by(model, x)).checked(strict=False)
    torch.testing.assert_close(graph(x), model(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: torch.where(x > 1, x, 0), "where.*: chooses by a condition — write it as torch.relu"),
        (lambda m, x: (x > 0).float(), "gt.*: compares values, which spikes cannot — write it"),
        (lambda m, x: x.masked_fill(x > 1, 0), "fills where a mask says"),
    ],
)
def test_other_comparisons_are_refused(call: Call, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        traced(call, trace)
