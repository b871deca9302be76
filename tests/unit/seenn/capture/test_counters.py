"""A counter that nothing reads is no state; one that is read is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seenn
from converter.trace import trace_model
from seenn.capture import build_graph, capture, trace, trace_exported
from seenn.errors import UnsupportedError


class Counting(nn.Module):
    shared = 0
    listed = [0]  # noqa: RUF012 - as careless models have it

    def __init__(self, count: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.count = count
        self.n, self.total = 0, 0.0
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.plain = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.count(self, x)  # type: ignore[no-any-return]


def plus(module: Any, name: str, amount: Any = 1) -> Any:
    setattr(module, name, getattr(module, name) + amount)
    return getattr(module, name)


def in_place(module: Any, name: str) -> None:
    value = getattr(module, name)
    value += 1
    setattr(module, name, value)


UNREAD: dict[str, Callable[[Any, Tensor], Any]] = {
    "a number": lambda m, x: (plus(m, "n"), x * 2)[1],
    "a number of images": lambda m, x: (plus(m, "n", x.shape[0]), x * 2)[1],
    "a sum": lambda m, x: (plus(m, "total", 0.5), x * 2)[1],
    "a buffer": lambda m, x: (plus(m, "calls"), x * 2)[1],
    "a buffer in place": lambda m, x: (in_place(m, "calls"), x * 2)[1],
    "a buffer by its method": lambda m, x: (m.calls.add_(1), x * 2)[1],
    "a tensor": lambda m, x: (m.plain.add_(1), x * 2)[1],
    "a number of the class": lambda m, x: (plus(m, "shared"), x * 2)[1],
}
READ: dict[str, tuple[str, Callable[[Any, Tensor], Any]]] = {
    "by a branch": ("n", lambda m, x: x if plus(m, "n") % 7 else -x),
    "by equality": ("n", lambda m, x: -x if plus(m, "n") == 7 else x),
    "as true": ("n", lambda m, x: x if plus(m, "n") else -x),
    "as text": ("n", lambda m, x: x if str(plus(m, "n")) != "7" else -x),
    "by a product": ("calls", lambda m, x: x * plus(m, "calls")),
    "by a sum": ("calls", lambda m, x: plus(m, "calls") + x),
    "of the class": ("shared", lambda m, x: x if plus(m, "shared") % 7 else -x),
    "in a list of the class": ("listed", lambda m, x: x if plus_item(m.listed) % 7 else -x),
}


def plus_item(counts: list[int]) -> int:
    counts[0] += 1
    return counts[0]


def model(count: Callable[[Any, Tensor], Any], last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 1), Counting(count), last, nn.Flatten()).eval()


@pytest.mark.parametrize("by", [trace, trace_exported])
@pytest.mark.parametrize("case", UNREAD)
def test_a_counter_that_nothing_reads_is_left_out(case: str, by: Callable[..., Any]) -> None:
    counting, x = model(UNREAD[case], nn.ReLU()), torch.rand(2, 2, 3, 3)
    graph = build_graph(by(counting, x)).checked()
    inner: Any = counting[1]  # type: ignore[index]
    assert (inner.n, inner.total, int(inner.calls), float(inner.plain)) == (0, 0.0, 0, 0.0)
    torch.testing.assert_close(graph(x), counting(x))


def test_a_counter_beside_neurons_is_left_out() -> None:
    assert capture(model(UNREAD["a buffer"], seenn.IFNeuron()), torch.rand(2, 2, 3, 3)).graph


@pytest.mark.parametrize("case", READ)
def test_a_counter_that_is_read_is_refused_by_name(case: str) -> None:
    name, count = READ[case]
    with pytest.raises(UnsupportedError, match=rf"^Sequential\.1\.{name} is updated in forward, which a network"):
        trace_model(model(count, nn.ReLU()), torch.rand(2, 2, 3, 3))


def test_the_message_says_that_counting_alone_is_no_harm() -> None:
    with pytest.raises(UnsupportedError, match="do not read it: what only counts calls is left out"):
        trace_model(model(READ["by a branch"][1], nn.ReLU()), torch.rand(2, 2, 3, 3))
