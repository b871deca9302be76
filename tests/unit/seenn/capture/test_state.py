"""What a model keeps between calls is refused by name, and the model stays as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seenn
from converter.trace import trace_model
from seenn.capture import build_graph, capture, trace, trace_exported
from seenn.errors import UnsupportedError


class Keeper(nn.Module):
    """Keeps something from call to call, as ``update`` has it."""

    def __init__(self, update: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.update = update
        self.weight = nn.Parameter(torch.ones(4, 1, 1))
        self.register_buffer("buffer", torch.zeros(4, 1, 1))
        self.plain = torch.zeros(4, 1, 1)
        self.none: Any = None
        self.items: list[Any] = []
        self.table: dict[str, Any] = {}
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.update(self, x)


def keep(module: Any, name: str, value: Any) -> Any:
    setattr(module, name, value)
    return value


UPDATES: dict[str, tuple[str, Callable[[Any, Tensor], Tensor]]] = {
    "a membrane": ("plain", lambda m, x: keep(m, "plain", 0.5 * m.plain + x)),
    "a membrane that starts as none": ("none", lambda m, x: keep(m, "none", x if m.none is None else m.none + x)),
    "a buffer that is assigned": ("buffer", lambda m, x: keep(m, "buffer", 0.5 * m.buffer + x)),
    "a buffer that decays": ("buffer", lambda m, x: m.buffer.mul_(0.5) + x),
    "a buffer that adds up": ("buffer", lambda m, x: m.buffer.add_(x.relu()[0, :, :1, :1]) + x),
    "a part of a buffer": ("buffer", lambda m, x: (m.buffer[0].copy_(x[0, 0, :1, :1]), m.buffer + x)[1]),
    "an item of a buffer": ("buffer", lambda m, x: (m.buffer.__setitem__(0, x[0, 0, :1, :1]), m.buffer + x)[1]),
    "a tensor in place": ("plain", lambda m, x: m.plain.add_(1) + x),
    "a weight": ("weight", lambda m, x: m.weight.detach().mul_(0.5) + x),
    "a list": ("items", lambda m, x: (m.items.append(x), x * 2)[1]),
    "a table": ("table", lambda m, x: (m.table.update(v=x), x * 2)[1]),
    "a counter": ("count", lambda m, x: x * keep(m, "count", m.count + 1)),
}


def picture(model: nn.Module) -> dict[str, Any]:
    """Every attribute of every module: the object, and a copy of what it holds."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            held = dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
            found[f"{path}.{name}"] = (value, held, value.clone() if isinstance(value, Tensor) else None)
    return found


def same(before: dict[str, Any], model: nn.Module, state: dict[str, Tensor]) -> None:
    after = picture(model)
    assert after.keys() == before.keys()
    for path, (value, held, values) in before.items():
        now = after[path]
        assert now[0] is value or now[0] == value, path
        assert isinstance(held, Tensor) or now[1] == held, path
        assert values is None or torch.equal(now[2], values), path
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def refusal(call: Callable[..., Any], update: Callable[[Any, Tensor], Tensor], last: nn.Module) -> str:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Keeper(update), last, nn.Flatten())
    before, state = picture(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UnsupportedError) as caught:
        call(model, torch.rand(2, 4, 6, 6))
    same(before, model, state)
    return str(caught.value)


@pytest.mark.parametrize("case", UPDATES)
def test_what_a_model_keeps_is_refused_by_name_and_the_model_is_unchanged(case: str) -> None:
    name, update = UPDATES[case]
    message = f"1.{name} is updated in forward, which a network would lose"
    assert message in refusal(capture, update, seenn.IFNeuron())
    assert message in refusal(lambda m, x: build_graph(trace_exported(m, x)).checked(), update, nn.ReLU())
    assert message in refusal(trace_model, update, nn.ReLU())


def test_the_message_says_what_to_do() -> None:
    message = refusal(trace, UPDATES["a membrane"][1], seenn.IFNeuron())
    assert message == (
        "Sequential.1.plain is updated in forward, which a network would lose: use seenn.IFNeuron or seenn.LIFNeuron "
        "for membranes, or return it"
    )


def test_a_capture_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), seenn.IFNeuron(), nn.Flatten(), nn.Linear(144, 3))
    model(torch.rand(2, 4, 6, 6))  # leaves a membrane with a history, which cannot be copied
    before, state = picture(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = capture(model, torch.rand(4, 4, 6, 6))
    same(before, model, state)
    assert {id(tensor) for tensor in network.parameters()} == {id(tensor) for tensor in model.parameters()}
    assert network.graph["1"].op.running_mean is model[1].running_mean
    assert all(node.op is not model[2] for node in network.graph)


def test_a_model_that_cannot_be_copied_is_refused_and_the_attribute_named() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), seenn.IFNeuron(), nn.Flatten())
    model[0].lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UnsupportedError, match=r"^Sequential\.0\.lock cannot be copied \(TypeError: cannot pickle"):
        capture(model, torch.zeros(1, 4, 6, 6))


def test_tables_made_from_weights_and_tensors_made_inside_are_no_state() -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        bias = torch.zeros(4, 1, 1)
        bias.add_(1)
        m.none = m.table["bias"] = bias
        return x + bias + m.plain

    model = nn.Sequential(Keeper(body), nn.ReLU(), nn.Flatten()).requires_grad_(False)
    x = torch.rand(2, 4, 6, 6)
    torch.testing.assert_close(trace_model(model, x)(x), model(x))


KEPT: dict[str, Tensor] = {}


class Global(nn.Module):
    """Adds up its inputs in a variable of the Python module."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron = seenn.IFNeuron()

    def forward(self, x: Tensor) -> Tensor:
        KEPT["sum"] = x.flatten(1) + KEPT.get("sum", 0.0)
        return self.neuron(KEPT["sum"])  # type: ignore[no-any-return]


def test_state_in_a_global_is_refused_because_reset_does_not_reach_it() -> None:
    with pytest.raises(
        UnsupportedError, match=r"Global gives other outputs in a second run, after reset\(\): .*outside"
    ):
        capture(Global(), torch.zeros(2, 1, 2, 2))
