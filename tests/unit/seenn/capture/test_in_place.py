"""What is changed in place is read as changed, as eager code does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter.trace import capture_graph
from seenn.capture import to_graph, trace, trace_exported
from seenn.errors import UnsupportedError

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


PLACES = torch.tensor([[True, False, False, True, False, False]] * 6)


def written(where: Callable[[Tensor], Any], value: float = 0.0) -> Callable[[Any, Tensor], Tensor]:
    """A forward that writes into a tensor, and reads it afterwards."""

    def body(m: Any, x: Tensor) -> Tensor:
        y = m.parts[0](x)
        y[where(y)] = value
        return y + x

    return body


@pytest.mark.parametrize(
    ("where", "kind"),
    [(lambda y: y < 0, "relu"), (lambda y: y <= 0, "relu"), (lambda y: y > 0, "scale")],
)
def test_what_a_mask_of_signs_cuts_off_is_an_activation(where: Any, kind: str, same: Callable[..., Any]) -> None:
    graph = same(written(where), nn.Conv2d(4, 4, 1), by=trace_exported)
    assert [node.op.kind for node in graph].count("relu") == 1
    assert kind in [node.op.kind for node in graph]


@pytest.mark.parametrize(
    "where",
    [lambda y: (..., PLACES), lambda y: (slice(None), [0, 2]), lambda y: (slice(None), [0, 1], slice(None), [2, 3])],
)
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_what_is_written_at_places_that_stay_is_moved(where: Any, value: float, same: Callable[..., Any]) -> None:
    same(written(where, value), nn.Conv2d(4, 4, 1), by=trace_exported)


@pytest.mark.parametrize(
    ("where", "value"), [(lambda y: y < 0, -1.0), (lambda y: y > 1, 0.0), (lambda y: y + 1 < 0, 0)]
)
def test_other_writing_by_values_is_refused(where: Any, value: float) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Conv2d(4, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            return written(where, value)(self, x)

    with pytest.raises(UnsupportedError, match=r"fills where a mask says — write it as torch\.relu"):
        to_graph(trace_exported(Writing().eval(), torch.randn(2, 4, 6, 6)))


def test_what_is_added_where_a_mask_says_is_not_cut_off() -> None:
    class Adding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y.index_put_((y < 0,), y.new_zeros(()), accumulate=True)

    with pytest.raises(UnsupportedError, match="writes at places that it computes"):
        to_graph(trace_exported(Adding().eval(), torch.randn(2, 4, 6, 6)))


@pytest.mark.parametrize("where", [lambda y: y > 6, lambda y: ~(y > 0), lambda y: y < 0.5])
def test_a_write_that_cannot_be_followed_is_named(where: Any) -> None:
    class Block(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            y = y * 1
            y[where(y)] = 6
            return y

    model = nn.Sequential(nn.Conv2d(4, 4, 1), Block(), nn.Flatten(), nn.Linear(144, 3)).eval()
    with pytest.raises(
        UnsupportedError, match=r"1 .*writes into a tensor where values of the image say .*torch\.where"
    ):
        capture_graph(model, torch.randn(2, 4, 6, 6)).checked(strict=False)
