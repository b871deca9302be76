"""Hooks on modules, and a forward that an instance has: part of the model, or not in the way."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from seenn.capture import to_graph, trace, trace_exported
from seenn.capture.plain import plain_copy
from seenn.errors import UnsupportedError


class Net(nn.Module):
    """Convolution and ReLU by ``body``; a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).flatten(1))


X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Hooked = Callable[[Net, list[Any]], Any]


def doubled(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


def in_place(module: nn.Module, args: Any, output: Tensor) -> None:
    output.mul_(2)


def note(module: nn.Module, args: Any, output: Tensor) -> None:
    module.seen = float(output.detach().numpy().max())  # type: ignore[assignment]


CHANGING: dict[str, Callable[[Net], Any]] = {
    "after the model": lambda m: m.register_forward_hook(doubled),
    "before the model": lambda m: m.register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    "with keywords": lambda m: m.register_forward_hook(lambda module, args, kwargs, y: y * 2, with_kwargs=True),
    "after a layer": lambda m: m.conv.register_forward_hook(doubled),
    "before a layer": lambda m: m.conv.register_forward_pre_hook(lambda module, args: args[0] - 1),
    "in place": lambda m: m.conv.register_forward_hook(in_place),
    "two": lambda m: (m.register_forward_hook(doubled), m.register_forward_hook(lambda module, args, y: y + 1)),
    "forward of the model": lambda m: setattr(m, "forward", MethodType(lambda s, x: s.head(s.conv(x).flatten(1)), m)),
    "forward of a layer": lambda m: setattr(
        m.conv, "forward", MethodType(lambda s, x: F.conv2d(x, s.weight, s.bias) * 2, m.conv)
    ),
}


@pytest.mark.parametrize("by", [trace, trace_exported])
@pytest.mark.parametrize("kind", CHANGING)
def test_hooks_that_change_values_are_part_of_the_model(kind: str, by: Any) -> None:
    torch.manual_seed(0)
    model, plain = Net().eval(), Net().eval()
    plain.load_state_dict(model.state_dict())
    CHANGING[kind](model)
    graph = to_graph(by(model, X))
    with torch.no_grad():
        expected = model(X)
        assert not torch.allclose(expected, plain(X))
        torch.testing.assert_close(graph(X), expected)


OBSERVING: dict[str, Callable[[Net], Any]] = {
    "a layer": lambda m: m.conv.register_forward_hook(note),
    "the model": lambda m: m.register_forward_hook(note),
    "before": lambda m: m.conv.register_forward_pre_hook(lambda module, args: print(args[0].max().item())),
    "gradients": lambda m: (m.register_full_backward_hook(print), m.conv.register_full_backward_hook(print)),
    "gradients, as before": lambda m: m.conv.register_backward_hook(print),
}


@pytest.mark.parametrize("by", [trace, trace_exported])
@pytest.mark.parametrize("kind", OBSERVING)
def test_hooks_that_only_observe_are_not_in_the_way(kind: str, by: Any) -> None:
    model = Net().eval()
    expected = model(X).detach()
    OBSERVING[kind](model)
    graph = to_graph(by(model, X))
    torch.testing.assert_close(graph(X).detach(), expected)
    assert len(list(graph)) == 4


def test_a_hook_that_the_model_reads_from_is_refused_by_name() -> None:
    class Reading(Net):
        def __init__(self) -> None:
            super().__init__()
            self.conv.register_forward_hook(self.keep)
            self.kept = torch.zeros(())

        def keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
            self.kept = output

        def forward(self, x: Tensor) -> Tensor:
            self.conv(x)
            return self.head(F.relu(self.kept).flatten(1))

    with pytest.raises(UnsupportedError, match=r"Reading\.kept is updated in forward"):
        trace(Reading().eval(), X)


def test_hooks_on_all_modules_are_refused_by_name_where_they_change_values() -> None:
    model = Net().eval()
    handles = [register_module_forward_pre_hook(lambda module, args: None), register_module_forward_hook(note)]
    try:
        torch.testing.assert_close(to_graph(trace(model, X))(X), model(X))
        handles.append(register_module_forward_hook(doubled))
        with pytest.raises(UnsupportedError, match="doubled is a hook on all modules that changes their values"):
            trace(model, X)
    finally:
        for handle in handles:
            handle.remove()


def test_hooks_on_what_is_taken_off_are_refused_by_name() -> None:
    model = nn.DataParallel(Net())
    model.register_forward_hook(doubled)
    with pytest.raises(UnsupportedError, match="has forward hooks on DataParallel, which is taken off: register them"):
        plain_copy(model)


def test_a_forward_that_holds_another_model_is_refused_with_what_to_do() -> None:
    model, inner = Net().eval(), Net().eval()
    model.forward = lambda x: inner(x) * 2  # type: ignore[method-assign]
    with pytest.raises(UnsupportedError, match="Put the forward that was assigned to the model into a subclass"):
        trace(model, X)
